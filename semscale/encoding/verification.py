"""Verification of endpoints: identifies the encoder of a clip-server and compares it with that of the stored rows.

semscale's server describes itself at ``/info``. A stock clip-server is identified by the user's model name and by its
embeddings of the probe, an image and a text, which must equal those that were first stored for this fingerprint.
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
from semscale.encoding.client import RETRY_PAUSES, EncodeClient, ServerUnavailableError
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
    """Checked fields of a server's ``/info``; the limits bound the memory that images take."""

    name: str
    device: str
    dtype: str
    logit_scale: float = Field(100.0, gt=0, allow_inf_nan=False)
    minibatch_size: int = Field(32, ge=1, le=2**20)
    preprocess: _Preprocess | None = None


def check_server(url: str, timeout: float = 10.0, access: Access | None = None) -> tuple[Mapping[str, Any] | None, int]:
    """Check a clip-server with one short text; return its ``/info``, None for a stock one, and the dimension.

    The default `access` is the environment's. (gRPC's health service reports SERVING also while the model hangs.)
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
    """Return the encoder of the first usable endpoint; the others are verified before anything is sent to them.

    Endpoints that do not answer are retried for the outage timeout; SemscaleError if none is usable.
    """
    rejected: dict[str, SemscaleError] = {}

    def first_identity() -> EncoderIdentity:
        unavailable: ServerUnavailableError | None = None
        for url in (url for url in servers.urls if url not in rejected):
            try:
                info, probe = asyncio.run(_describe(EncodeClient(url, deadline=_DEADLINE, access=servers.access)))
                _check_model(url, info, model)
                identity = EncoderIdentity.of(model, info, probe.shape[1], draft)
                check_draft(identity, url)
                check_probe(url, identity, probe, store)
                return identity
            except SemscaleError as error:
                rejected[url] = error
            except ServerUnavailableError as error:
                unavailable = error
        raise unavailable or next(iter(rejected.values()))

    try:
        return _retry(tenacity.stop_before_delay(servers.outage_timeout))(first_identity)
    except ServerUnavailableError as error:
        if rejected:
            raise next(iter(rejected.values())) from error
        hint = "start one with `semscale serve`, or name no server: then the sweep starts one"
        where = ", ".join(servers.urls)
        raise ServerError("no clip-server answers", where=where, found=str(error), hint=hint) from error


async def verify_endpoint(
    client: EncodeClient, identity: EncoderIdentity, probe: Float32 | None, quick: bool = False
) -> None:
    """Raise SemscaleError unless a server runs this encoder; `probe` has its embeddings, if they are stored.

    A `quick` check, after a call, only asks for ``/info``, unless it is a stock server.
    """
    if quick and identity.info is not None:
        info, answered = await _info(client), None
    else:
        info, answered = await _describe(client)
    _check_model(client.url, info, identity.model)
    dimension = identity.dimension if answered is None else answered.shape[1]
    found = EncoderIdentity.of(identity.model, info, dimension, identity.draft)
    if found.fingerprint != identity.fingerprint:
        what, expected = "it is another encoder", identity.fingerprint
        raise ServerError(what, where=client.url, found=found.fingerprint, expected=expected)
    if answered is not None and probe is not None:
        check_cosine(client.url, identity, answered, probe)


def short_message(error: SemscaleError) -> str:
    """Return an error's message without its location and hint."""
    found = f": {error.found}" if error.found else ""
    return f"{error.what}{found}" + (f" instead of {error.expected}" if error.expected else "")


def _retry(stop: tenacity.stop.stop_base) -> tenacity.Retrying:
    unavailable = tenacity.retry_if_exception_type(ServerUnavailableError)
    return tenacity.Retrying(retry=unavailable, wait=tenacity.wait_exponential(0.25, max=5.0), stop=stop, reraise=True)


async def _encode(client: EncodeClient, content: bytes | str) -> Float32:
    for pause in (*RETRY_PAUSES, None):
        answer = await client.encode([content])  # type: ignore[arg-type]
        if not answer.retryable or pause is None:
            break
        await asyncio.sleep(pause)
    if answer.reasons[0] is not None:
        raise ServerError("the clip-server cannot encode", where=client.url, found=answer.reasons[0])
    return answer.embeddings


async def _describe(client: EncodeClient) -> tuple[Mapping[str, Any] | None, Float32]:
    """Return a server's ``/info``, None for a stock one, and its embeddings of the probe, float32 [2, dimension]."""
    probe = [await _encode(client, content) for content in (probe_image(), PROBE_TEXT)]
    return await _info(client), np.concatenate(probe)


async def _info(client: EncodeClient) -> Mapping[str, Any] | None:
    tags: list[Mapping[str, Any]] = []
    # a stock server encodes the documents of any unknown path
    await client.post("/info", [Document(text="info")], lambda answer: tags.extend(doc.tags for doc in answer.docs))
    text = tags[0].get("semscale_info") if tags else None
    if not text:
        return None
    try:
        info: Mapping[str, Any] = parse_json(text)
        _Info.model_validate(info)
    except (TypeError, ValueError) as error:
        raise ServerError("the server's description of itself cannot be read", where=client.url) from error
    return info


def _check_model(url: str, info: Mapping[str, Any] | None, model: str) -> None:
    if info is not None and info["name"] != model:
        name = str(info["name"])
        hint = f"sweep with --model {name}, or start the server with --model {model}"
        raise ServerError("the endpoint runs another model", where=url, found=name, expected=model, hint=hint)
