"""Verification of endpoints: which encoder a clip-server runs, and whether that is the one of the stored embeddings.

semscale's own server describes itself at ``/info``. A stock clip-server is known by the model name that the user gives
and by its answers: a fixed image and a fixed text are compared with the first ones that this fingerprint ever gave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tenacity
from docarray import Document
from pydantic import BaseModel, Field

from semscale.common.access import Access, is_address, read_access
from semscale.common.errors import SemscaleError, ServerError
from semscale.common.parsing import parse_json
from semscale.encoding.client import EncodeClient, ServerUnavailableError
from semscale.encoding.image_pipeline import check_draft
from semscale.encoding.server_discovery import Servers
from semscale.store.encoder_fingerprint import (
    PROBE_TEXT,
    EncoderIdentity,
    check_cosine,
    check_probe,
    probe_image,
)
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import Float32

_DEADLINE = 60.0

_Side = Annotated[int, Field(strict=True, ge=1, le=2048)]


class _Preprocess(BaseModel):
    size: _Side | tuple[_Side, _Side]
    interpolation: str


class _Info(BaseModel):
    """What a server says of itself, as far as it is used here; how much memory pictures take follows from it."""

    name: str
    device: str
    dtype: str
    logit_scale: float = Field(100.0, gt=0, allow_inf_nan=False)
    minibatch_size: int = Field(32, ge=1, le=2**20)
    preprocess: _Preprocess | None = None


def check_server(url: str, timeout: float = 10.0, access: Access | None = None) -> tuple[Mapping[str, Any] | None, int]:
    """Let a clip-server encode one short text; return what it says of itself, if it does, and the row's length.

    Without `access` the environment's is taken. (gRPC's own health service says SERVING also while the model hangs.)
    """
    if not is_address(url):
        raise ServerError("not the address of a clip-server", found=url, expected="grpc://host:port")
    client = EncodeClient(url, deadline=timeout, access=read_access() if access is None else access)

    async def ask() -> tuple[Mapping[str, Any] | None, int]:
        row = await _encode(client, PROBE_TEXT)
        return await _info(client), row.shape[1]

    try:
        return _retry(tenacity.stop_after_attempt(1 if timeout < 1 else 3))(lambda: asyncio.run(ask()))
    except ServerUnavailableError as error:
        hint = "is it running there? `semscale serve --port PORT` starts one"
        raise ServerError("the clip-server does not answer", where=url, found=str(error), hint=hint) from error


def identify_encoder(
    servers: Servers, model: str, store: Path | MirroredDirectory, draft: bool = False
) -> EncoderIdentity:
    """Return the encoder that the endpoints run: that of the first one that can be used.

    Endpoints that do not answer are tried again until the servers' patience ends; SemscaleError if none is of use.
    Before anything is sent to an endpoint :func:`verify_endpoint` makes sure that it is this encoder.
    """
    refused: dict[str, SemscaleError] = {}

    def first() -> EncoderIdentity:
        silent: ServerUnavailableError | None = None
        for url in (url for url in servers.urls if url not in refused):
            try:
                info, probe = asyncio.run(_describe(EncodeClient(url, deadline=_DEADLINE, access=servers.access)))
                _check_model(url, info, model)
                identity = EncoderIdentity.of(model, info, probe.shape[1], draft)
                check_draft(identity, url)
                check_probe(url, identity, probe, store)
                return identity
            except SemscaleError as error:
                refused[url] = error
            except ServerUnavailableError as error:
                silent = error
        raise silent or next(iter(refused.values()))

    try:
        return _retry(tenacity.stop_before_delay(servers.patience))(first)
    except ServerUnavailableError as error:
        if refused:
            raise next(iter(refused.values())) from error
        hint = "start one with `semscale serve`, or name no server, and the sweep starts its own"
        where = ", ".join(servers.urls)
        raise ServerError("no clip-server answers", where=where, found=str(error), hint=hint) from error


async def verify_endpoint(
    client: EncodeClient, identity: EncoderIdentity, known: Float32 | None, again: bool = False
) -> None:
    """Raise SemscaleError unless a server is this encoder, whose probe's rows may be known.

    One that has just answered, and is asked `again`, is asked only for what it says of itself, if it does.
    """
    if again and identity.info is not None:
        info, probe = await _info(client), None
    else:
        info, probe = await _describe(client)
    _check_model(client.url, info, identity.model)
    dimension = identity.dimension if probe is None else probe.shape[1]
    found = EncoderIdentity.of(identity.model, info, dimension, identity.draft)
    if found.fingerprint != identity.fingerprint:
        what, expected = "it is another encoder", identity.fingerprint
        raise ServerError(what, where=client.url, found=found.fingerprint, expected=expected)
    if probe is not None and known is not None:
        check_cosine(client.url, identity, probe, known)


def in_one_line(error: SemscaleError) -> str:
    """Return what an error says without its address and advice."""
    found = f": {error.found}" if error.found else ""
    return f"{error.what}{found}" + (f" instead of {error.expected}" if error.expected else "")


def _retry(stop: tenacity.stop.stop_base) -> tenacity.Retrying:
    unavailable = tenacity.retry_if_exception_type(ServerUnavailableError)
    return tenacity.Retrying(retry=unavailable, wait=tenacity.wait_exponential(0.25, max=5.0), stop=stop, reraise=True)


async def _encode(client: EncodeClient, content: bytes | str) -> Float32:
    for pause in (0.25, 0.5, None):
        answer = await client.encode([content])  # type: ignore[arg-type]
        if not answer.unsure or pause is None:
            break
        await asyncio.sleep(pause)
    if answer.reasons[0] is not None:
        raise ServerError("the clip-server cannot encode", where=client.url, found=answer.reasons[0])
    return answer.embeddings


async def _describe(client: EncodeClient) -> tuple[Mapping[str, Any] | None, Float32]:
    """Return what a server says of itself, None for a stock one, and its probe, float32 [2, dimension]."""
    probe = [await _encode(client, content) for content in (probe_image(), PROBE_TEXT)]
    return await _info(client), np.concatenate(probe)


async def _info(client: EncodeClient) -> Mapping[str, Any] | None:
    tags: list[Mapping[str, Any]] = []
    # a stock server answers any unknown path by encoding the document, hence the innocent text
    await client.post("/info", [Document(text="info")], lambda answer: tags.extend(doc.tags for doc in answer.docs))
    text = tags[0].get("semscale_info") if tags else None
    if not text:
        return None
    try:
        info: Mapping[str, Any] = parse_json(text)
        _Info.model_validate(info)
    except (TypeError, ValueError) as error:
        raise ServerError("the server says of itself what cannot be read", where=client.url) from error
    return info


def _check_model(url: str, info: Mapping[str, Any] | None, model: str) -> None:
    if info is not None and info["name"] != model:
        name = str(info["name"])
        hint = f"sweep with --model {name}, or start the server with --model {model}"
        raise ServerError("the endpoint runs another model", where=url, found=name, expected=model, hint=hint)
