"""Verification of endpoints: which encoder a clip-server runs, and whether that is the one of the stored embeddings.

semscale's own server describes itself at ``/info``. A stock clip-server is known by the model name that the user gives
and by its answers: a fixed image and a fixed text are compared with the first ones that this fingerprint ever gave.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tenacity
from docarray import Document

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
    identities: list[EncoderIdentity] = []
    problems: list[tuple[str, SemscaleError]] = []
    for url, description in asyncio.run(_describe_all(servers)).items():
        try:
            if isinstance(description, SemscaleError):
                raise description
            _check_model(url, description.info, model)
            identity = EncoderIdentity.of(model, description.info, description.probe.shape[1], draft)
            identity.check_draft(url)
            if identities and identity.fingerprint != identities[0].fingerprint:
                what = "the endpoints do not run the same encoder"
                hint = "start all servers with the same --model and --dtype"
                found, expected = identity.fingerprint, identities[0].fingerprint
                raise SemscaleError(what, where=url, found=found, expected=expected, hint=hint)
            check_probe(url, identity, description.probe, store)
            identities.append(identity)
        except SemscaleError as error:
            state = "left alone for now" if error is description else "refused"
            problems.append((f"{url} is {state}: {in_one_line(error)}", error))
    if problems and not (tolerant and identities):
        raise problems[0][1]
    for message, _ in problems:
        servers.note(message)
    return replace(identities[0], packed=all(identity.packed for identity in identities))


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
    if found.fingerprint != identity.fingerprint or (identity.packed and not found.packed):
        what, expected = "it is another encoder", identity.fingerprint
        raise SemscaleError(what, where=client.url, found=found.fingerprint, expected=expected)
    if probe is not None and known is not None:
        check_cosine(client.url, identity, probe, known)


def in_one_line(error: SemscaleError) -> str:
    """Return what an error says without its address and advice.

    >>> in_one_line(SemscaleError("the endpoint runs another model", found="a", expected="b"))
    'the endpoint runs another model: a instead of b'
    """
    found = f": {error.found}" if error.found else ""
    return f"{error.what}{found}" + (f" instead of {error.expected}" if error.expected else "")


async def _describe_all(servers: Servers) -> dict[str, _Description | SemscaleError]:
    """Ask all endpoints at once; when one has answered, the others have a little longer."""
    tasks = {url: asyncio.ensure_future(_describe_patiently(url, servers)) for url in servers.urls}
    pending = set(tasks.values())
    while pending:
        answered = any(task.done() and isinstance(task.result(), _Description) for task in tasks.values())
        timeout = _STRAGGLER_SECONDS if answered else None
        done, pending = await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            break
    for task in pending:
        task.cancel()
    silent = "no clip-server answers"
    return {url: SemscaleError(silent, where=url) if task in pending else task.result() for url, task in tasks.items()}


async def _describe_patiently(url: str, servers: Servers) -> _Description | SemscaleError:
    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(ServerUnavailableError),
        wait=tenacity.wait_exponential(0.25, max=5.0),
        stop=tenacity.stop_before_delay(servers.patience),
        reraise=True,
    )
    try:
        return await attempts(_describe, EncodeClient(url, deadline=_DEADLINE, access=servers.access))
    except SemscaleError as error:
        return error
    except ServerUnavailableError as error:
        hint = "start one with `semscale serve`, or leave --server away and the sweep starts its own"
        return SemscaleError("no clip-server answers", where=url, found=str(error), hint=hint)


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


def _check_model(url: str, info: Mapping[str, Any] | None, model: str) -> None:
    if info is not None and info["name"] != model:
        name = str(info["name"])
        hint = f"sweep with --model {name}, or start the server with --model {model}"
        raise SemscaleError("the endpoint runs another model", where=url, found=name, expected=model, hint=hint)
