"""Stage 1 alone: fill the store ahead of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from semscale.config import StudyConfig
from semscale.encoding.folder import Folder, embedding_store
from semscale.encoding.image_outcomes import TooManyBadImagesError
from semscale.study.arms import Arm, make_arms, write_ladders
from semscale.study.cluster import connect
from semscale.study.encode import EncodedModel, encode_model, write_work
from semscale.study.progress import Reporter
from semscale.study.rundir import RunDirectory, out_of
from semscale.study.who import who_encodes


@dataclass(frozen=True)
class Filled:
    """What filling the store came to.

    Attributes:
        folder: the run directory, with the ladders and the quarantine.
        store: root of the embedding store.
        images_sent: images that went to the servers on this occasion.
        texts_sent: texts likewise.
        quarantined: images that could not be used.
        work: a row per endpoint, node and actor that sent them.
    """

    folder: Folder
    store: Folder
    images_sent: int
    texts_sent: int
    quarantined: int
    work: pd.DataFrame


def fill_store(
    study: StudyConfig, out: Path | Folder | None, report: Reporter, arms: Sequence[Arm] | None = None
) -> Filled:
    """Encode everything that a study needs and is not in the store; nothing is scored or recorded.

    Args:
        study: the validated study.
        out: run directory, which a sweep of the same study goes on in; :func:`out_of` says which unless given.
        report: shows the progress.
        arms: of :func:`semscale.study.arms.make_arms`; made here unless given.

    Raises:
        SemscaleError: for anything that the user can mend.
    """
    store = embedding_store(study.store)
    arms = make_arms(study, report) if arms is None else arms
    encoded: list[EncodedModel] = []
    quarantine: list[tuple[str, str, str]] = []
    with RunDirectory(out_of(study, out), study) as directory, ExitStack() as stack:
        write_ladders(arms, directory, report)
        if study.encoder == "server":
            connect(study, store, report, stack)
        for model in study.models:
            try:
                with who_encodes(study, model, store, directory.path / "logs", report) as who:
                    encoded.append(encode_model(study, model, arms, who, store, report))
            except TooManyBadImagesError as error:
                directory.write_quarantine([*quarantine, *error.rows()])
                raise
            quarantine += encoded[-1].quarantine()
            directory.write_quarantine(quarantine)
        work = write_work(directory, encoded)
    return Filled(
        folder=directory.folder,
        store=store,
        images_sent=sum(one.images_sent for one in encoded),
        texts_sent=sum(one.texts_sent for one in encoded),
        quarantined=len({row[:2] for row in quarantine}),
        work=work,
    )
