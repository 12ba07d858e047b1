"""Stage 1, encode: embeddings of all images and texts of a study, written to the embedding store model by model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from semscale.common.progress import ProgressReporter
from semscale.common.text import counted
from semscale.config import StudyConfig
from semscale.datasets.dataset_check import duplicate_warnings
from semscale.encoding.backends import open_encoder
from semscale.encoding.store_backed_encoder import EncodedImages, StoreBackedEncoder, TooManyBadImagesError
from semscale.store.encoder_fingerprint import EncoderIdentity
from semscale.store.mirrored_directory import MirroredDirectory, store_directory
from semscale.study.arms import Arm, make_arms, write_ladders
from semscale.study.run_directory import RunDirectory, run_directory_for


@dataclass(frozen=True)
class EncodedArm:
    """An arm whose embeddings are in the store, and the encoder that reads them."""

    arm: Arm
    images: EncodedImages
    encoder: StoreBackedEncoder


@dataclass(frozen=True)
class EncodedModel:
    """All arms of a study encoded with one model."""

    identity: EncoderIdentity
    arms: list[EncodedArm]  # in the study's order
    images_sent: int  # in this run
    texts_sent: int
    work: pd.DataFrame  # a row per endpoint, node and actor that encoded them


def encode_model(
    arms: Sequence[Arm], encoder: StoreBackedEncoder, directory: RunDirectory, report: ProgressReporter
) -> EncodedModel:
    """Encode what the store lacks with one model, and write unusable images to the quarantine of the run directory."""
    encoded = []
    for arm in arms:
        dataset, name = arm.dataset, arm.dataset.name
        n_images = len(dataset.samples) + len(dataset.rejected)
        max_bad = math.floor(directory.study.max_bad_fraction * n_images)
        try:
            with report.stage(f"encoding {name}", len(dataset.samples), "images") as advance:
                images = encoder.encode_images(dataset, advance, max_bad)
        except TooManyBadImagesError as error:
            directory.quarantine(name, error.quarantine)
            raise
        directory.quarantine(name, images.quarantine)
        if images.quarantine:
            report.note(f"{name}: {counted(len(images.quarantine), 'images')} cannot be used, see quarantine.csv")
        for line in duplicate_warnings(dataset.samples.pick(images.positions), images.keys):
            report.note(f"{name}: {line}")
        encoded.append(EncodedArm(arm, images, encoder))
    # one stream for the texts of all arms: strategies share most of them
    texts = list(dict.fromkeys(text for arm in arms for ladder in arm.ladders for text in ladder.flatten().texts))
    with report.stage("encoding categories", len(texts), "texts") as advance:
        texts_sent = encoder.encode_texts(texts, advance)
    images_sent = sum(arm.images.sent for arm in encoded)
    return EncodedModel(encoder.identity, encoded, images_sent, texts_sent, encoder.throughput.table())


@dataclass(frozen=True)
class EncodeResult:
    """Result of encoding a study; counts and work are those of this run."""

    folder: MirroredDirectory  # the run directory, with the ladders and the quarantine
    store: MirroredDirectory
    images_sent: int  # 0 if the store had all
    texts_sent: int
    quarantined: int  # unusable images
    work: pd.DataFrame  # a row per endpoint, node and actor that encoded something

    @classmethod
    def of(
        cls, directory: RunDirectory, store: MirroredDirectory, encoded: Sequence[EncodedModel], **more: Any
    ) -> Self:
        """Return the result over all models, and write logs/encoding.csv if anything was encoded."""
        work = pd.concat([model.work.assign(model=model.identity.model) for model in encoded], ignore_index=True)
        if len(work):  # otherwise the file of an earlier run stays
            directory.write("logs/encoding.csv", work.to_csv(index=False).encode())
        images, texts = sum(model.images_sent for model in encoded), sum(model.texts_sent for model in encoded)
        return cls(directory.folder, store, images, texts, directory.n_quarantined, work, **more)


def encode_study(
    study: StudyConfig,
    out: Path | MirroredDirectory | None,
    report: ProgressReporter,
    arms: Sequence[Arm] | None = None,
) -> EncodeResult:
    """Encode what a study needs and the store lacks; the run directory is that of a later sweep."""
    from semscale.cluster.watch import run_on_ray  # imports Ray

    store = store_directory(study.store)
    arms = make_arms(study, report) if arms is None else arms
    with RunDirectory(run_directory_for(study, out), study) as directory:
        write_ladders(arms, directory, report)

        def work() -> list[EncodedModel]:
            encoded = []
            for model in study.models:
                with open_encoder(study, model, store, report, directory.path / "logs") as encoder:
                    encoded.append(encode_model(arms, encoder, directory, report))
            return encoded

        on_server = study.encoder == "server"
        encoded = run_on_ray(study.ray.address, store.shared_path, report, work) if on_server else work()
        return EncodeResult.of(directory, store, encoded)
