"""Stage 1: bring every image and every text of a study into the store, by one model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from semscale.config import StudyConfig
from semscale.datasets.duplicates import duplicate_notes
from semscale.encoding.encoder_fingerprint import EncoderIdentity
from semscale.encoding.folder import Folder
from semscale.encoding.image_outcomes import EncodedImages
from semscale.encoding.segment import Float32
from semscale.study.arms import Arm
from semscale.study.progress import Reporter
from semscale.study.rundir import RunDirectory
from semscale.study.who import Servers, open_encoder

if TYPE_CHECKING:
    from semscale.study.local import LocalModel
    from semscale.study.who import AnyEncoder


@dataclass(frozen=True)
class EncodedArm:
    """An arm whose embeddings are in the store, and how to get at them.

    Attributes:
        arm: the dataset and its ladders.
        images: which samples are encoded and which are in the quarantine.
        encoder: reads the embeddings.
    """

    arm: Arm
    images: EncodedImages
    encoder: AnyEncoder

    def image_embeddings(self) -> Float32:
        """Return the images' unit rows [n_images, dimension] in the order of ``images.positions``."""
        return self.encoder.image_embeddings(self.images.keys)

    def text_embeddings(self, texts: Sequence[str]) -> Float32:
        """Return the texts' unit rows [n_texts, dimension]."""
        return self.encoder.text_embeddings(texts)


@dataclass(frozen=True)
class EncodedModel:
    """Everything of a study as one model sees it.

    Attributes:
        identity: the encoder that the servers run.
        arms: the encoded arms in the study's order.
        images_sent: images that went to the servers on this occasion.
        texts_sent: texts likewise.
        work: a row per endpoint, node and actor that sent them.
    """

    identity: EncoderIdentity
    arms: list[EncodedArm]
    images_sent: int
    texts_sent: int
    work: pd.DataFrame

    def quarantine(self) -> list[tuple[str, str, str]]:
        """Return dataset, file and reason of the images that cannot be used."""
        found = [(arm.arm.dataset.name, arm.images.quarantine) for arm in self.arms]
        return [(name, file, reason) for name, images in found for file, reason in images.items()]


def _most_bad(study: StudyConfig, arm: Arm) -> int:
    return math.floor(study.max_bad_fraction * (len(arm.dataset.samples) + len(arm.dataset.rejected)))


def write_work(directory: RunDirectory, encoded: Sequence[EncodedModel]) -> pd.DataFrame:
    """Return who encoded what on this occasion, over all models, and keep it beside the logs if there was anything."""
    tables = [one.work.assign(model=one.identity.model) for one in encoded]
    work = pd.concat(tables, ignore_index=True)
    if len(work):  # another occasion's file stays as it is when everything is in the store
        directory.write("logs/encoding.csv", work.to_csv(index=False).encode())
    return work


def encode_model(
    study: StudyConfig,
    model: str,
    arms: Sequence[Arm],
    endpoints: Servers | LocalModel,
    store: Folder,
    report: Reporter,
) -> EncodedModel:
    """Encode what is not in the store yet; where servers do it Ray must be initialised.

    Raises:
        SemscaleError: an endpoint is missing or another encoder, or a text cannot be encoded.
    """
    with open_encoder(study, endpoints, store, report) as encoder:
        encoded = []
        for arm in arms:
            name = arm.dataset.name
            with report.stage(f"encoding {name}", len(arm.dataset.samples), "images") as advance:
                images = encoder.encode_images(arm.dataset, advance, _most_bad(study, arm))
            if images.quarantine:
                report.note(f"{name}: {len(images.quarantine)} images cannot be used, see quarantine.csv")
            for line in duplicate_notes(arm.dataset.samples.pick(images.positions), images.keys):
                report.note(f"{name}: {line}")
            encoded.append(EncodedArm(arm, images, encoder))
        # texts of all arms in one stream: the strategies share most of them
        texts = list(dict.fromkeys(text for arm in arms for ladder in arm.ladders for text in ladder.flatten().texts))
        with report.stage("encoding categories", len(texts), "texts") as advance:
            texts_sent = encoder.encode_texts(texts, advance)
        work = encoder.work.table()
    return EncodedModel(encoder.identity, encoded, sum(arm.images.sent for arm in encoded), texts_sent, work)
