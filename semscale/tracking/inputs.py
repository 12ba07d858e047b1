"""Datasets as MLflow knows them: by name and digest, once in an experiment, and an input of each run that used them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

# of MLflow
_LONGEST_NAME, _LONGEST_DIGEST = 500, 36


@dataclass(frozen=True)
class DatasetUsed:
    """The images that a run labels.

    Attributes:
        name: the dataset's name.
        digest: changes with any image, file name, class or class name; MLflow keeps 36 characters of it.
        source_type: what kind of place it is from: bundled, folder, zip, hf, ...
        source: where it is from, without passwords.
        n_images: images used.
        n_classes: classes.
    """

    name: str
    digest: str
    source_type: str
    source: str
    n_images: int
    n_classes: int


def log_datasets(client: Any, run: Any, datasets: Sequence[DatasetUsed]) -> None:
    """Make the datasets inputs of a run; what it has already is not written again, nor when this is repeated.

    Args:
        client: an MlflowClient.
        run: as it was made or found.
        datasets: which; those of one name and digest are one.
    """
    known = {(one.dataset.name, one.dataset.digest) for one in (run.inputs.dataset_inputs if run.inputs else ())}
    entries = [_entry(one) for one in datasets]
    missing = [one for one in entries if (one.dataset.name, one.dataset.digest) not in known]
    if not missing:
        return
    try:
        client.log_inputs(run.info.run_id, missing)
    except MlflowException as error:
        # two that write a new dataset at the same moment: the slower one is refused, and finds it there the next time
        if error.error_code != "BAD_REQUEST":
            raise
        client.log_inputs(run.info.run_id, missing)


def _entry(used: DatasetUsed) -> DatasetInput:
    dataset = Dataset(
        name=used.name[:_LONGEST_NAME],
        digest=used.digest[:_LONGEST_DIGEST],
        source_type=used.source_type,
        source=json.dumps({"spec": used.source}, ensure_ascii=False),
        # the UI shows these, and of sources only those that it knows
        profile=json.dumps(
            {"images": used.n_images, "classes": used.n_classes, "source": used.source}, ensure_ascii=False
        ),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "evaluation")])
