"""Who encodes: clip-servers, this process, or nobody; and the encoder that goes with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from semscale.access import Access
from semscale.config import StudyConfig
from semscale.encoding.encoder_fingerprint import EncoderIdentity
from semscale.encoding.folder import Folder
from semscale.encoding.local import LocalEncoder
from semscale.study.endpoints import Endpoints
from semscale.study.local import LocalModel
from semscale.study.progress import Reporter

if TYPE_CHECKING:
    from semscale.encoding.encoder import Encoder

    AnyEncoder = Encoder | LocalEncoder


class Servers(Protocol):
    """Who encodes; see :class:`semscale.study.endpoints.Endpoints`."""

    access: Access

    def identity(self) -> EncoderIdentity:
        """Return which encoder it is."""
        ...

    def servers(self) -> Sequence[str] | Callable[[], Sequence[str]] | None:
        """Return the addresses, or what starts servers and returns them; None where there are none."""
        ...

    def revive(self) -> Sequence[str] | None:
        """Start servers again that have ended, where that is its business."""
        ...

    def watch(self) -> Callable[[], Sequence[str]] | None:
        """Return the function that tells where the servers are by now; None where that cannot change."""
        ...


def who_encodes(study: StudyConfig, model: str, store: Folder, logs: Path, report: Reporter) -> Endpoints | LocalModel:
    """Return the model's servers, or the model in this process where the study says ``encoder: local``.

    Args:
        study: the study.
        model: the model's name.
        store: root of the embedding store.
        logs: folder for the log of a server of our own.
        report: says what is started.

    Raises:
        SemscaleError: the study's token or certificate authority cannot be read.
    """
    if study.encoder == "local":
        return LocalModel(study, model, store, report)
    return Endpoints(study, model, store, logs, report)


def open_encoder(study: StudyConfig, who: Servers | LocalModel, store: Folder, report: Reporter) -> AnyEncoder:
    """Return the encoder, a context manager; where servers encode Ray must be initialised.

    Raises:
        SemscaleError: an endpoint is missing or another encoder, or the model cannot be had.
    """
    identity = who.identity()
    if isinstance(who, LocalModel):
        return LocalEncoder(identity, who.load, store)
    from semscale.encoding.encoder import Encoder  # Ray comes with it

    settings = study.encoding
    return Encoder(
        identity,
        who.servers(),
        store,
        actors=settings.actors,
        batch_size=settings.batch_size,
        deadline=settings.deadline,
        patience=study.server.patience,
        note=report.note,
        revive=who.revive,
        access=who.access,
        watch=who.watch(),
    )
