"""Encoder fingerprint, the embeddings of a probe that verify it, and a cache of fingerprints by model files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from semscale.common.errors import SemscaleError, StoreError, summarize, write_error
from semscale.common.files import atomic_write
from semscale.common.parsing import parse_json
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import Float32

Probe = npt.NDArray[np.float32]

PROBE_TEXT = "a photo of a cat"
# float16 against float32 of the same weights stays above 0.9999; other weights fall far below
_PROBE_COSINE = 0.999
# what determines embeddings; the device only does within the tolerance of the probe
_IDENTITY_KEYS = ("architecture", "weights_sha256", "embedding_dim", "dtype", "preprocess", "context_length")


@dataclass(frozen=True)
class EncoderIdentity:
    """The encoder behind one or several endpoints."""

    model: str  # the user's name of it
    fingerprint: str  # name of its folder in the store; equal for endpoints that give equal embeddings
    dimension: int
    info: Mapping[str, Any] | None  # the server's /info; None for a stock clip-server
    packed: bool = False  # the endpoints accept packed requests
    draft: bool = False  # draft decoding, see semscale.encoding.image_pipeline

    @classmethod
    def of(cls, model: str, info: Mapping[str, Any] | None, dimension: int, draft: bool = False) -> Self:
        """Return the identity from the ``/info`` of a server, or of a stock server from the model name."""
        packed = bool(info and info.get("packed"))
        return cls(model, fingerprint_of(model, info, dimension, draft), dimension, info, packed, draft)

    @property
    def logit_scale(self) -> float:
        """Factor of the cosines in the logits; CLIP's usual 100 for a stock server."""
        return float(self.info.get("logit_scale", 100.0)) if self.info else 100.0

    @property
    def preprocess(self) -> Mapping[str, Any] | None:
        """open_clip's preprocessing configuration; None if unknown."""
        return self.info.get("preprocess") if self.info else None

    @property
    def minibatch(self) -> int:
        """Rows that the server computes in one pass; 32 for a stock server."""
        return int(self.info.get("minibatch_size", 32)) if self.info else 32


def fingerprint_of(model: str, info: Mapping[str, Any] | None, dimension: int, draft: bool = False) -> str:
    """Return the fingerprint of an encoder from the ``/info`` of its server, or of a stock server from its name.

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


def _read_record(folder: MirroredDirectory) -> tuple[Mapping[str, Any] | None, Probe] | None:
    """Return the info and the probe's embeddings in ``encoder.json``; None if it does not exist."""
    folder.pull_missing("encoder.json")
    path = folder.local / "encoder.json"
    if not path.exists():
        return None
    try:
        record = parse_json(path.read_bytes())
        probe = np.array(record["probe"], dtype=np.float32)
        if probe.ndim != 2:
            raise ValueError("the probe has no rows")
        return record["info"], probe
    except (OSError, ValueError, KeyError, TypeError) as error:
        what, found = "the record of the encoder cannot be read", summarize(error)
        hint = "remove this file if the rows in its folder are this model's; it is written again"
        raise StoreError(what, where=str(path), found=found, hint=hint) from error


def _known_record(store: Path | MirroredDirectory, fingerprint: str) -> tuple[Mapping[str, Any] | None, Probe] | None:
    with contextlib.suppress(SemscaleError):
        return _read_record(MirroredDirectory.of(store) / fingerprint)
    return None


def read_probe(store: Path | MirroredDirectory, fingerprint: str) -> Probe | None:
    """Return the first embeddings of the probe, image and text, float32 [2, dimension]; None if none are stored."""
    record = _known_record(store, fingerprint)
    return record[1] if record else None


def stored_identity(
    store: Path | MirroredDirectory, fingerprint: str, model: str, draft: bool = False
) -> EncoderIdentity | None:
    """Return the identity of a stored encoder; None if its record is not certainly this model's."""
    if (record := _known_record(store, fingerprint)) is None:
        return None
    info, probe = record
    identity = EncoderIdentity.of(model, info, probe.shape[1], draft)
    matches = info is None or (info.get("name"), info.get("embedding_dim")) == (model, identity.dimension)
    return identity if matches and identity.fingerprint == fingerprint else None


def cache_fingerprint(store: Path | MirroredDirectory, identity: EncoderIdentity, files_digest: str) -> None:
    """Record in the folder of an encoder the digest of the model files that it was loaded from."""
    folder, name = MirroredDirectory.of(store) / identity.fingerprint, f"origin-{files_digest}"
    with contextlib.suppress(OSError, SemscaleError):  # writing rows reports that the store is not writable
        (folder.local / name).touch()
        folder.push(name)


def cached_fingerprint(
    store: Path | MirroredDirectory, model: str, files_digest: str, draft: bool = False
) -> EncoderIdentity | None:
    """Return the identity recorded for the model files; None unless there is exactly one and its record is valid."""
    names = MirroredDirectory.of(store).find(f"*/origin-{files_digest}")
    return stored_identity(store, names[0].partition("/")[0], model, draft) if len(names) == 1 else None


def evict_fingerprint(store: Path | MirroredDirectory, files_digest: str) -> None:
    """Remove the fingerprints recorded for the model files."""
    folder = MirroredDirectory.of(store)
    for name in folder.find(f"*/origin-{files_digest}"):
        with contextlib.suppress(OSError, SemscaleError):
            folder.remove(name)


def check_probe(where: str, identity: EncoderIdentity, probe: Float32, store: Path | MirroredDirectory) -> None:
    """Check an encoder's embeddings of the probe, float32 [2, dimension], against the first ones, or store them."""
    folder = MirroredDirectory.of(store) / identity.fingerprint
    if record := _read_record(folder):
        check_cosine(where, identity, probe, record[1])
        return
    path = folder.local / "encoder.json"
    content = {"model": identity.model, "info": identity.info, "draft": identity.draft, "probe": probe.tolist()}
    try:
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        hint = "free some space, or use --store DIR"
        raise write_error("the embedding store", folder.local, error, hint=hint, kind=StoreError) from error
    folder.push(path.name)


def check_cosine(where: str, identity: EncoderIdentity, probe: Float32, known: Float32) -> None:
    """Raise StoreError unless the embeddings of the probe equal the known ones, within rounding."""
    cosine = float((known * probe).sum(axis=1).min()) if known.shape == probe.shape else 0.0
    if cosine < _PROBE_COSINE:
        what = "the endpoint gives other embeddings than those in the store"
        found = f"cosine {cosine:.4f} between its probe and that of {identity.fingerprint}"
        hint = "give the right --model name, or remove the store's folder if it is out of date"
        raise StoreError(what, where=where, found=found, expected=f"at least {_PROBE_COSINE}", hint=hint)


def probe_image() -> bytes:
    """Return the probe's image, a PNG file."""
    # smooth gradients and edges: models differ on it, unlike on a flat image
    ramp = np.linspace(0, 255, 64, dtype=np.float64)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 64.0)], axis=-1)
    pixels[16:40, 20:52] = (230, 90, 20)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
