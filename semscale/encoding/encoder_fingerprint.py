"""Fingerprint of an encoder: the name of its folder in the store, its probe, and a cache from model files to encoder.

The probe is a fixed picture and a fixed text; their embeddings tell whether an encoder is still the one that it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from semscale.encoding.folder import Folder
from semscale.encoding.segment import Float32
from semscale.errors import SemscaleError, cannot_write

Probe = npt.NDArray[np.float32]

# what decides an embedding; the device does not, beyond the tolerance of the probe
_IDENTITY_KEYS = ("architecture", "weights_sha256", "embedding_dim", "dtype", "preprocess", "context_length")


@dataclass(frozen=True)
class EncoderIdentity:
    """The encoder behind one or several endpoints.

    Attributes:
        model: the name under which the user knows it.
        fingerprint: names the store's folder; the same for every endpoint that gives the same embeddings.
        dimension: length of an embedding.
        info: what the server says of itself at ``/info``; None for a stock clip-server.
        packed: every endpoint takes packed requests (:mod:`semscale.encoding.client`).
        draft: large JPEGs are decoded at reduced size, which changes embeddings a little.
    """

    model: str
    fingerprint: str
    dimension: int
    info: Mapping[str, Any] | None
    packed: bool = False
    draft: bool = False

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines with; CLIP's usual 100 where the server does not tell."""
        return float(self.info.get("logit_scale", 100.0)) if self.info else 100.0

    @property
    def preprocess(self) -> Mapping[str, Any] | None:
        """open_clip's preprocessing configuration, where the server told it."""
        return self.info.get("preprocess") if self.info else None

    @property
    def minibatch(self) -> int:
        """Return how many rows the server computes at once, as far as it tells."""
        return int(self.info.get("minibatch_size", 32)) if self.info else 32


def takes_packed(info: Mapping[str, Any] | None) -> bool:
    """Tell whether a server says that it takes packed requests."""
    return bool(info and info.get("packed"))


def fingerprint_of(model: str, info: Mapping[str, Any] | None, dimension: int, draft: bool = False) -> str:
    """Return the fingerprint of an encoder: of what its server says, or of its name where that says nothing.

    >>> fingerprint_of("some clip", None, 512)
    'some-clip-282aa210315a1985'
    """
    identity: dict[str, Any] = {"model": model, "embedding_dim": dimension, "server": "stock"}
    if info is not None:
        identity = {key: info.get(key) for key in _IDENTITY_KEYS}
    if info is not None and info.get("compiled"):
        identity["compiled"] = True
    if draft:
        identity["draft"] = True
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', model).strip('-')[-60:]}-{digest}"


def read_probe(store: Path | Folder, fingerprint: str) -> Probe | None:
    """Return the probe's embeddings, image and text, float32 [2, dimension], that an encoder gave first."""
    try:
        record = json.loads(record_of(Folder.of(store) / fingerprint).read_text(encoding="utf-8"))
        return np.array(record["probe"], dtype=np.float32)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_of(folder: Folder) -> Path:
    """Return the file that tells which encoder the rows of a folder are of, brought here if it is elsewhere."""
    folder.pull("encoder.json")
    return folder.local / "encoder.json"


def remember_origin(store: Path | Folder, identity: EncoderIdentity, origin: str) -> None:
    """Write down which encoder comes of a model's files, so that :func:`recall_origin` needs no server.

    The note lies in the encoder's own folder, beside the record of its handshake, and goes with it.

    Args:
        store: root of the embedding store.
        identity: from the handshake with a server that was started on these files.
        origin: digest of everything that decides what such a server loads.
    """
    folder, name = Folder.of(store) / identity.fingerprint, f"origin-{origin}"
    with contextlib.suppress(OSError, SemscaleError):  # a store that cannot be written says so with the first rows
        (folder.local / name).touch()
        folder.push(name)


def recall_origin(store: Path | Folder, model: str, origin: str, draft: bool = False) -> EncoderIdentity | None:
    """Return the encoder that a server gave on these files before; None unless that is beyond doubt."""
    place = Folder.of(store)
    notes = place.find(f"*/origin-{origin}")
    if len(notes) != 1:
        return None
    fingerprint = notes[0].partition("/")[0]
    try:
        record = json.loads(record_of(place / fingerprint).read_text(encoding="utf-8"))
        info, dimension = record["info"], len(record["probe"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    if not info or info.get("name") != model or info.get("embedding_dim") != dimension:
        return None
    if fingerprint_of(model, info, dimension, draft) != fingerprint:
        return None
    return EncoderIdentity(model, fingerprint, dimension, info, takes_packed(info), draft)


def forget_origin(store: Path | Folder, origin: str) -> None:
    """Remove what was written down of a model's files."""
    place = Folder.of(store)
    for note in place.find(f"*/origin-{origin}"):
        with contextlib.suppress(OSError):
            place.remove(note)


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
