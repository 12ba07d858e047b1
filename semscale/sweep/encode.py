"""Stage 1: bring every image and every text of a study into the store, through one model's servers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from semscale.config import StudyConfig
from semscale.datasets.duplicates import duplicate_notes
from semscale.encoding.encoder import EncodedImages, Encoder
from semscale.encoding.handshake import EncoderIdentity, shake_hands
from semscale.encoding.store import Float32
from semscale.sweep.arms import Arm
from semscale.sweep.progress import Reporter


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
    encoder: Encoder

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
    """

    identity: EncoderIdentity
    arms: list[EncodedArm]
    images_sent: int
    texts_sent: int


def _most_bad(study: StudyConfig, arm: Arm) -> int:
    return math.floor(study.max_bad_fraction * (len(arm.dataset.samples) + len(arm.dataset.rejected)))


@contextmanager
def clip_servers(study: StudyConfig, model: str, logs: Path, report: Reporter) -> Iterator[Sequence[str]]:
    """Give the endpoints of a model: the study's own, or those of a server that lives as long as the context."""
    if study.server.urls:
        yield study.server.urls
        return
    from semscale.serving.launcher import launch_server  # torch and jina come with it

    with ExitStack() as stack:
        with report.stage(f"starting clip-server, {study.server.replicas} replicas"):
            logs.mkdir(parents=True, exist_ok=True)
            server = stack.enter_context(
                launch_server(
                    model,
                    replicas=study.server.replicas,
                    device=study.server.device,
                    dtype=study.server.dtype,
                    log_file=logs / "clip-server.log",
                )
            )
        yield [server.url]


def encode_model(
    study: StudyConfig, model: str, arms: Sequence[Arm], urls: Sequence[str], store: Path, report: Reporter
) -> EncodedModel:
    """Encode what is not in the store yet; Ray must be initialised.

    Raises:
        SemscaleError: an endpoint is missing or another encoder, or a text cannot be encoded.
    """
    settings = study.encoding
    identity = shake_hands(urls, model, store, draft=settings.draft)
    with Encoder(
        identity,
        urls,
        store,
        actors=settings.actors,
        batch_size=settings.batch_size,
        deadline=settings.deadline,
    ) as encoder:
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
    return EncodedModel(identity, encoded, sum(arm.images.sent for arm in encoded), texts_sent)
