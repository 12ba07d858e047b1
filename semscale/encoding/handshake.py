"""Getting to know an endpoint: which encoder it runs, and whether that is the one whose embeddings are in the store.

semscale's own server tells its identity (model, hash of the weights, dtype, preprocessing) at ``/info``; a stock
clip-server does not, so it is known by the model name that the user gives and by its answers: a fixed probe image and a
fixed probe text are encoded at every handshake and compared with the first ones this fingerprint ever gave.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from docarray import Document

from semscale.access import Access, read_access
from semscale.encoding.client import EncodeClient, ServerUnavailableError
from semscale.encoding.encoder_fingerprint import (
    PROBE_TEXT,
    EncoderIdentity,
    check_cosine,
    check_probe,
    fingerprint_of,
    probe_image,
    takes_packed,
)
from semscale.encoding.folder import Folder
from semscale.encoding.segment import Float32
from semscale.errors import SemscaleError

# seconds that other endpoints have to answer when one has
_STRAGGLER = 5.0


def shake_hands(
    urls: Sequence[str],
    model: str,
    store: Path | Folder,
    *,
    patience: float = 60.0,
    draft: bool = False,
    notes: list[str] | None = None,
    access: Access | None = None,
) -> EncoderIdentity:
    """Ask every endpoint who it is, and refuse those that are not the same encoder as the first one that can be used.

    Args:
        urls: the endpoints.
        model: the model that the study wants.
        store: root of the embedding store, where the probe's embeddings of earlier handshakes lie.
        patience: seconds to go on trying an endpoint that does not answer.
        draft: let the workers decode large JPEGs at reduced size; such embeddings are kept apart from all others.
        notes: takes a line for every endpoint that is of no use, for a caller who goes on with the others.
        access: the token to show and the authorities to trust; None takes them from the environment.

    Raises:
        SemscaleError: an endpoint does not answer, refuses the token or is not trusted (both said at once), runs
            another model, or gives other embeddings; draft decoding for a server whose preprocessing the workers
            cannot do. With `notes` only if all are of no use.
    """
    access = read_access() if access is None else access
    good, bad = asyncio.run(_interview_all(urls, patience, access))
    identities: dict[str, EncoderIdentity] = {}
    refused: dict[str, SemscaleError] = {}
    for url, (info, probe) in good.items():
        try:
            first = next(iter(identities.values()), None)
            identities[url] = _identify(url, info, probe, model, store, draft, first)
        except SemscaleError as error:
            refused[url] = error
    if not identities:
        raise next(iter([*refused.values(), *bad.values()]))
    if notes is not None:
        notes += [f"{url} is refused: {in_one_line(why)}" for url, why in refused.items()]
        notes += [f"{url} is left alone for now: {in_one_line(why)}" for url, why in bad.items()]
    elif refused or bad:
        raise next(iter([*refused.values(), *bad.values()]))
    first = next(iter(identities.values()))
    return replace(first, packed=all(identity.packed for identity in identities.values()))


async def greet(client: EncodeClient, identity: EncoderIdentity, known: Float32 | None) -> None:
    """Make sure that a server is this encoder, before anything is sent to it.

    Raises:
        ServerUnavailableError: it does not answer.
        SemscaleError: it is another one, or cannot encode.
    """
    info, probe = await _question(client)
    _compare(client.url, info, probe, identity, known)


async def confirm(client: EncodeClient, identity: EncoderIdentity, known: Float32 | None) -> None:
    """Make sure that the server which has just answered is still this encoder; cheaper than :func:`greet`.

    Raises:
        ServerUnavailableError: it does not answer any more.
        SemscaleError: it is another one.
    """
    if identity.info is None:
        await greet(client, identity, known)
        return
    _compare(client.url, await _info(client), None, identity, None)


def in_one_line(error: SemscaleError) -> str:
    """Return what an error says without its address and advice.

    >>> in_one_line(SemscaleError("the endpoint runs another model", found="a", expected="b"))
    'the endpoint runs another model: a instead of b'
    """
    found = f": {error.found}" if error.found else ""
    return f"{error.what}{found}" + (f" instead of {error.expected}" if error.expected else "")


async def _interview_all(
    urls: Sequence[str], patience: float, access: Access
) -> tuple[dict[str, tuple[Mapping[str, Any] | None, Float32]], dict[str, SemscaleError]]:
    """Ask all at once; when one has answered, the others have a little longer."""
    asked = {url: asyncio.ensure_future(_retry(lambda url=url: _interview(url, access), patience)) for url in urls}  # type: ignore[misc]
    open_ones = set(asked.values())
    while open_ones:
        answered = [one for one in asked.values() if one.done() and not one.exception()]
        done, open_ones = await asyncio.wait(
            open_ones, timeout=_STRAGGLER if answered else None, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            break
    good, bad = {}, {}
    for url, one in asked.items():
        if not one.done():
            one.cancel()
            bad[url] = SemscaleError("no clip-server answers", where=url)
        elif isinstance(error := one.exception(), SemscaleError):
            bad[url] = error
        else:
            good[url] = one.result()
    return good, bad


def _identify(
    url: str,
    info: Mapping[str, Any] | None,
    probe: Float32,
    model: str,
    store: Path | Folder,
    draft: bool,
    first: EncoderIdentity | None,
) -> EncoderIdentity:
    _check_model(url, info, model)
    identity = EncoderIdentity.of(model, info, probe.shape[1], draft)
    identity.check_draft(url)
    if first is not None and identity.fingerprint != first.fingerprint:
        raise SemscaleError(
            "the endpoints do not run the same encoder",
            where=url,
            found=identity.fingerprint,
            expected=first.fingerprint,
            hint="start all servers with the same --model and --dtype",
        )
    check_probe(url, identity, probe, store)
    return identity


def _compare(
    url: str,
    info: Mapping[str, Any] | None,
    probe: Float32 | None,
    identity: EncoderIdentity,
    known: Float32 | None,
) -> None:
    _check_model(url, info, identity.model)
    dimension = identity.dimension if probe is None else probe.shape[1]
    found = fingerprint_of(identity.model, info, dimension, identity.draft)
    if found != identity.fingerprint or (identity.packed and not takes_packed(info)):
        raise SemscaleError("it is another encoder", where=url, found=found, expected=identity.fingerprint)
    if probe is not None and known is not None:
        check_cosine(url, identity, probe, known)


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
    return await _question(EncodeClient(url, deadline=60.0, access=access))


async def _question(client: EncodeClient) -> tuple[Mapping[str, Any] | None, Float32]:
    url = client.url
    image = await client.encode([probe_image()])
    text = await client.encode([PROBE_TEXT])
    for answer in (image, text):
        if answer.reasons[0] is not None:
            raise SemscaleError("the clip-server cannot encode", where=url, found=answer.reasons[0])
    return await _info(client), np.concatenate([image.embeddings, text.embeddings])


async def _info(client: EncodeClient) -> Mapping[str, Any] | None:
    tags: list[Mapping[str, Any]] = []
    # a stock server answers any unknown path by encoding the document, hence the innocent text
    await client.post("/info", [Document(text="info")], lambda answer: tags.extend(doc.tags for doc in answer.docs))
    info = tags[0].get("semscale_info") if tags else None
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
