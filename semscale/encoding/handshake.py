"""Getting to know an endpoint: which encoder it runs, and whether that is the one whose embeddings are in the store.

semscale's own server tells its identity (model, hash of the weights, dtype, preprocessing) at ``/info``; a stock
clip-server does not, so it is known by the model name that the user gives and by its answers: a fixed probe image and a
fixed probe text are encoded at every handshake and compared with the first ones this fingerprint ever gave.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from docarray import Document, DocumentArray
from PIL import Image

from semscale.access import Access, read_access
from semscale.encoding.client import EncodeClient, Float32, ServerUnavailableError
from semscale.encoding.identity import EncoderIdentity, fingerprint_of, takes_packed
from semscale.encoding.preprocess import can_prepare
from semscale.errors import SemscaleError

_PROBE_TEXT = "a photo of a cat"
# float16 against float32 of the same weights stays above 0.9999; other weights fall far below
_PROBE_COSINE = 0.999


def shake_hands(
    urls: Sequence[str],
    model: str,
    store: Path,
    *,
    patience: float = 60.0,
    draft: bool = False,
    access: Access | None = None,
) -> EncoderIdentity:
    """Ask every endpoint who it is, and refuse those that are not the same encoder.

    Args:
        urls: the endpoints.
        model: the model that the study wants.
        store: root of the embedding store, where the probe's embeddings of earlier handshakes lie.
        patience: seconds to go on trying an endpoint that does not answer.
        draft: let the workers decode large JPEGs at reduced size; such embeddings are kept apart from all others.
        access: the token to show and the authorities to trust; None takes them from the environment.

    Raises:
        SemscaleError: an endpoint does not answer, refuses the token or is not trusted (both said at once), runs
            another model, or gives other embeddings; draft decoding for a server whose preprocessing the workers
            cannot do.
    """
    identities = {}
    access = read_access() if access is None else access
    for url in urls:
        info, probe = asyncio.run(_retry(lambda url=url: _interview(url, access), patience))  # type: ignore[misc]
        _check_model(url, info, model)
        identity = EncoderIdentity(
            model, fingerprint_of(model, info, probe.shape[1], draft), probe.shape[1], info, takes_packed(info), draft
        )
        if draft and not can_prepare(identity.preprocess):
            raise SemscaleError(
                "draft decoding needs a server whose preprocessing is known",
                where=url,
                found="a server that is sent whole files",
                hint="leave encoding.draft away, or use `semscale serve`",
            )
        _check_probe(url, identity, probe, store)
        identities[url] = identity
    first = identities[urls[0]]
    for url, identity in identities.items():
        if identity.fingerprint != first.fingerprint:
            raise SemscaleError(
                "the endpoints do not run the same encoder",
                where=url,
                found=identity.fingerprint,
                expected=f"{first.fingerprint} as at {urls[0]}",
                hint="start all servers with the same --model and --dtype",
            )
    return replace(first, packed=all(identity.packed for identity in identities.values()))


def ask(url: str, patience: float = 5.0) -> str:
    """Encode the probe at an endpoint, with the environment's token, and return in words who answers.

    Raises:
        SemscaleError: no answer, or an error.
    """
    access = read_access()
    info, probe = asyncio.run(_retry(lambda: _interview(url, access), patience))
    if info is None:
        return f"a clip-server that does not tell its model, embeddings of {probe.shape[1]} numbers"
    return f"{info['name']} on {info['device']}, {info['dtype']}, embeddings of {probe.shape[1]} numbers"


async def _retry(call: Callable[[], Any], patience: float) -> Any:
    deadline = time.monotonic() + patience
    pause = 0.25
    while True:
        try:
            return await call()
        except ServerUnavailableError as error:
            if time.monotonic() + pause > deadline:
                raise SemscaleError(
                    "no clip-server answers",
                    where=str(error).split(" ")[0],
                    found=str(error),
                    hint="start one with `semscale serve`, or leave --server away and the sweep starts its own",
                ) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)


async def _interview(url: str, access: Access) -> tuple[Mapping[str, Any] | None, Float32]:
    client = EncodeClient(url, deadline=60.0, access=access)
    image = await client.encode([_probe_image()])
    text = await client.encode([_PROBE_TEXT])
    for answer in (image, text):
        if answer.reasons[0] is not None:
            raise SemscaleError("the clip-server cannot encode", where=url, found=answer.reasons[0])
    if image.embeddings.shape != text.embeddings.shape:
        raise SemscaleError(
            "images and texts have embeddings of different lengths",
            where=url,
            found=f"{image.embeddings.shape[1]} and {text.embeddings.shape[1]} numbers",
        )
    return await _info(client), np.concatenate([image.embeddings, text.embeddings])


async def _info(client: EncodeClient) -> Mapping[str, Any] | None:
    # a stock server answers any unknown path by encoding the document, hence the innocent text
    answers: list[Mapping[str, Any]] = []

    def on_done(response: Any) -> None:
        answers.extend(document.tags for document in response.docs)

    def on_error(response: Any) -> None:
        del response

    stream = client.post("/info", DocumentArray([Document(text="info")]), on_done=on_done, on_error=on_error)
    async for _ in stream:
        pass
    info = answers[0].get("semscale_info") if answers else None
    return json.loads(info) if info else None


def _check_model(url: str, info: Mapping[str, Any] | None, model: str) -> None:
    if info is not None and info["name"] != model:
        raise SemscaleError(
            "the endpoint runs another model",
            where=url,
            found=str(info["name"]),
            expected=model,
            hint=f"sweep with --model {info['name']}, or start the server with --model {model}",
        )


def _check_probe(url: str, identity: EncoderIdentity, probe: Float32, store: Path) -> None:
    folder = store / identity.fingerprint
    path = folder / "encoder.json"
    if not path.exists():
        record = {"model": identity.model, "info": identity.info, "draft": identity.draft, "probe": probe.tolist()}
        partial = folder / f"encoder.{os.getpid()}.partial"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(record), encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise SemscaleError(
                "the embedding store cannot be written", where=str(folder), found=str(error), hint="use --store DIR"
            ) from error
        return
    known = np.array(json.loads(path.read_text(encoding="utf-8"))["probe"], dtype=np.float32)
    cosine = float((known * probe).sum(axis=1).min()) if known.shape == probe.shape else 0.0
    if cosine < _PROBE_COSINE:
        raise SemscaleError(
            "the endpoint gives other embeddings than those in the store",
            where=url,
            found=f"cosine {cosine:.4f} between its probe and that of {identity.fingerprint}",
            expected=f"at least {_PROBE_COSINE}",
            hint="give the right --model name, or remove the store's folder if it is out of date",
        )


def _probe_image() -> bytes:
    # smooth gradients and one edge: unlike a flat picture, every model sees something in it
    ramp = np.linspace(0, 255, 64, dtype=np.float64)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 64.0)], axis=-1)
    pixels[16:40, 20:52] = (230, 90, 20)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
