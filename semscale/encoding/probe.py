"""The probe: a fixed picture and a fixed text, whose embeddings tell whether an encoder is still the one it was."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from semscale.encoding.folder import Folder
from semscale.encoding.identity import EncoderIdentity, record_of
from semscale.encoding.segment import Float32
from semscale.errors import SemscaleError, cannot_write

PROBE_TEXT = "a photo of a cat"
# float16 against float32 of the same weights stays above 0.9999; other weights fall far below
_PROBE_COSINE = 0.999


def check_probe(where: str, identity: EncoderIdentity, probe: Float32, store: Path | Folder) -> None:
    """Compare a probe's embeddings with the first ones of this encoder, or keep them if there were none.

    Raises:
        SemscaleError: they differ, or the record cannot be read or written.
    """
    place = Folder.of(store) / identity.fingerprint
    folder, path = place.local, record_of(place)
    if not path.exists():
        record = {"model": identity.model, "info": identity.info, "draft": identity.draft, "probe": probe.tolist()}
        partial = folder / f"encoder.{os.getpid()}.partial"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(record), encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise cannot_write(
                "the embedding store", folder, error, hint="free some space, or use --store DIR"
            ) from error
        place.push(path.name)
        return
    try:
        known = np.array(json.loads(path.read_text(encoding="utf-8"))["probe"], dtype=np.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SemscaleError(
            "the record of the encoder cannot be read",
            where=str(path),
            found=" ".join(str(error).split())[:200],
            hint="remove this file if the rows beside it are this model's; the next handshake writes it again",
        ) from error
    check_cosine(where, identity, probe, known)


def check_cosine(where: str, identity: EncoderIdentity, probe: Float32, known: Float32) -> None:
    """Raise SemscaleError when a probe's embeddings are not those that are known."""
    cosine = float((known * probe).sum(axis=1).min()) if known.shape == probe.shape else 0.0
    if cosine < _PROBE_COSINE:
        raise SemscaleError(
            "the endpoint gives other embeddings than those in the store",
            where=where,
            found=f"cosine {cosine:.4f} between its probe and that of {identity.fingerprint}",
            expected=f"at least {_PROBE_COSINE}",
            hint="give the right --model name, or remove the store's folder if it is out of date",
        )


def probe_image() -> bytes:
    """Return the probe's picture, a PNG file."""
    # smooth gradients and one edge: unlike a flat picture, every model sees something in it
    ramp = np.linspace(0, 255, 64, dtype=np.float64)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 64.0)], axis=-1)
    pixels[16:40, 20:52] = (230, 90, 20)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
