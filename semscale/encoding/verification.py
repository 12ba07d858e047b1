"""Verification of endpoints: which encoder a clip-server runs, and whether that is the one of the stored embeddings.

semscale's own server describes itself at ``/info``. A stock clip-server is known by the model name that the user gives
and by its answers: a fixed image and a fixed text are compared with the first ones that this fingerprint ever gave.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tenacity
from docarray import Document

from semscale.access import Access
from semscale.encoding.client import EncodeClient, ServerUnavailableError
from semscale.encoding.encoder_fingerprint import (
    PROBE_TEXT,
    EncoderIdentity,
    check_cosine,
    check_probe,
    probe_image,
)
from semscale.encoding.folder import Folder
from semscale.encoding.segment import Float32
from semscale.encoding.servers import Servers
from semscale.errors import SemscaleError

# seconds that other endpoints have to answer when one has
_STRAGGLER_SECONDS = 5.0
_DEADLINE = 60.0


class _Description(NamedTuple):
    """What a server says of itself, None for a stock one, and its rows of the probe, float32 [2, dimension]."""

    info: Mapping[str, Any] | None
    probe: Float32


def verify_endpoints(
    servers: Servers, model: str, store: Path | Folder, draft: bool = False, tolerant: bool = False
) -> EncoderIdentity:
    """Return the encoder that the endpoints run: that of the first one that can be used; the others must be the same.

    An endpoint that does not answer is tried again until the servers' patience ends. Raises SemscaleError for one that
    does not answer, refuses the token, is not trusted or is another encoder; if `tolerant`, only when all are of no
    use. `store` is the root of the embedding store, which has the probe of earlier verifications; `draft` lets the
    workers decode large JPEGs at reduced size, and such embeddings are kept apart from all others.
    """
    described, failed = asyncio.run(_describe_all(servers.urls, servers.patience, servers.access))
    identities: list[EncoderIdentity] = []
    refused: dict[str, SemscaleError] = {}
    for url, (info, probe) in described.items():
        try:
            _check_model(url, info, model)
            identity = EncoderIdentity.of(model, info, probe.shape[1], draft)
            identity.check_draft(url)
            if identities and identity.fingerprint != identities[0].fingerprint:
                what = "the endpoints do not run the same encoder"
                hint = "start all servers with the same --model and --dtype"
                found, expected = identity.fingerprint, identities[0].fingerprint
                raise SemscaleError(what, where=url, found=found, expected=expected, hint=hint)
            check_probe(url, identity, probe, store)
            identities.append(identity)
        except SemscaleError as error:
            refused[url] = error
    if (refused or failed) and not (tolerant and identities):
        raise next(iter([*refused.values(), *failed.values()]))
    for url, why in refused.items():
        servers.note(f"{url} is refused: {in_one_line(why)}")
    for url, why in failed.items():
        servers.note(f"{url} is left alone for now: {in_one_line(why)}")
    return replace(identities[0], packed=all(identity.packed for identity in identities))


async def verify_endpoint(client: EncodeClient, identity: EncoderIdentity, probe: Float32 | None) -> None:
    """Raise SemscaleError unless the server is this encoder, ServerUnavailableError if it does not answer."""
    found = await _describe(client)
    _check_same(client.url, found.info, found.probe.shape[1], identity)
    if probe is not None:
        check_cosine(client.url, identity, found.probe, probe)


async def recheck_endpoint(client: EncodeClient, identity: EncoderIdentity, probe: Float32 | None) -> None:
    """As :func:`verify_endpoint`, of a server that has just answered, and by its description alone if it has one."""
    if identity.info is None:
        await verify_endpoint(client, identity, probe)
    else:
        _check_same(client.url, await _info(client), identity.dimension, identity)


def in_one_line(error: SemscaleError) -> str:
    """Return what an error says without its address and advice.

    >>> in_one_line(SemscaleError("the endpoint runs another model", found="a", expected="b"))
    'the endpoint runs another model: a instead of b'
    """
    found = f": {error.found}" if error.found else ""
    return f"{error.what}{found}" + (f" instead of {error.expected}" if error.expected else "")


async def _describe_all(
    urls: Sequence[str], patience: float, access: Access
) -> tuple[dict[str, _Description], dict[str, SemscaleError]]:
    """Ask all endpoints at once; when one has answered, the others have a little longer."""
    tasks = {url: asyncio.ensure_future(_describe_patiently(url, patience, access)) for url in urls}
    pending = set(tasks.values())
    while pending:
        answered = any(task.done() and not task.exception() for task in tasks.values())
        timeout = _STRAGGLER_SECONDS if answered else None
        done, pending = await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            break
    described, failed = {}, {}
    for url, task in tasks.items():
        if not task.done():
            task.cancel()
            failed[url] = SemscaleError("no clip-server answers", where=url)
        elif isinstance(error := task.exception(), SemscaleError):
            failed[url] = error
        else:
            described[url] = task.result()
    return described, failed


async def _describe_patiently(url: str, patience: float, access: Access) -> _Description:
    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(ServerUnavailableError),
        wait=tenacity.wait_exponential(0.25, max=5.0),
        stop=tenacity.stop_before_delay(patience),
        reraise=True,
    )
    try:
        return await attempts(_describe, EncodeClient(url, deadline=_DEADLINE, access=access))
    except ServerUnavailableError as error:
        hint = "start one with `semscale serve`, or leave --server away and the sweep starts its own"
        raise SemscaleError("no clip-server answers", where=url, found=str(error), hint=hint) from error


async def _describe(client: EncodeClient) -> _Description:
    answers = [await client.encode([probe_image()]), await client.encode([PROBE_TEXT])]
    for answer in answers:
        if answer.reasons[0] is not None:
            raise SemscaleError("the clip-server cannot encode", where=client.url, found=answer.reasons[0])
    return _Description(await _info(client), np.concatenate([answer.embeddings for answer in answers]))


async def _info(client: EncodeClient) -> Mapping[str, Any] | None:
    tags: list[Mapping[str, Any]] = []
    # a stock server answers any unknown path by encoding the document, hence the innocent text
    await client.post("/info", [Document(text="info")], lambda answer: tags.extend(doc.tags for doc in answer.docs))
    info = tags[0].get("semscale_info") if tags else None
    return json.loads(info) if info else None


def _check_same(url: str, info: Mapping[str, Any] | None, dimension: int, identity: EncoderIdentity) -> None:
    _check_model(url, info, identity.model)
    found = EncoderIdentity.of(identity.model, info, dimension, identity.draft)
    if found.fingerprint != identity.fingerprint or (identity.packed and not found.packed):
        raise SemscaleError("it is another encoder", where=url, found=found.fingerprint, expected=identity.fingerprint)


def _check_model(url: str, info: Mapping[str, Any] | None, model: str) -> None:
    if info is not None and info["name"] != model:
        name = str(info["name"])
        hint = f"sweep with --model {name}, or start the server with --model {model}"
        raise SemscaleError("the endpoint runs another model", where=url, found=name, expected=model, hint=hint)
