"""The datasets of a study as MLflow is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from semscale.config import StudyConfig
from semscale.redact import shown
from semscale.study.encode import EncodedArm, EncodedModel
from semscale.tracking.inputs import DatasetUsed


def datasets_used(study: StudyConfig, encoded: Sequence[EncodedModel]) -> dict[tuple[str, str], DatasetUsed]:
    """Return the datasets by name and model; models differ in one only where they cannot use the same images.

    Args:
        study: says where the datasets are from.
        encoded: the study as encoded by each model, the datasets in the study's order.
    """
    specs = [config.spec for config in study.datasets]
    return {
        (arm.arm.dataset.name, one.identity.model): _used(arm, spec)
        for one in encoded
        for arm, spec in zip(one.arms, specs, strict=True)
    }


def distinct(datasets: Mapping[tuple[str, str], DatasetUsed]) -> list[DatasetUsed]:
    """Return each dataset once."""
    return list({(one.name, one.digest): one for one in datasets.values()}.values())


def _used(arm: EncodedArm, spec: str) -> DatasetUsed:
    dataset = arm.arm.dataset
    samples = dataset.samples.pick(arm.images.positions)
    scheme, colon, _ = spec.partition(":")
    return DatasetUsed(
        name=dataset.name,
        digest=_digest(samples.files(), dataset.classes, samples.class_index, arm.images.keys),
        source_type=scheme if colon else "bundled",
        source=shown(spec),
        n_images=len(samples),
        n_classes=len(dataset.classes),
    )


def _digest(files: Sequence[str], classes: Sequence[str], class_index: np.ndarray, keys: np.ndarray) -> str:
    sha = hashlib.sha256()
    for names in (classes, files):
        sha.update("\0".join([str(len(names)), *names]).encode("utf-8", "surrogateescape"))
    sha.update(np.ascontiguousarray(class_index, dtype="<i4").tobytes())
    sha.update(np.ascontiguousarray(keys).tobytes())  # SHA-256 of each image file
    return sha.hexdigest()
