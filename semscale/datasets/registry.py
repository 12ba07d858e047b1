"""From the spec of a study file to a dataset: one loader per scheme."""

from __future__ import annotations

import dataclasses
import difflib
import random
import re

from semscale.datasets.base import Dataset, Sample
from semscale.datasets.bundled import BUNDLED, load_bundled
from semscale.datasets.folder import load_folder
from semscale.errors import SemscaleError

# what a class is when nobody says so; the domain templates then read "Object tulip"
DEFAULT_DOMAIN = "object"


def load_dataset(spec: str, *, name: str | None = None, domain: str | None = None, limit: int | None = None) -> Dataset:
    """Return the dataset that a spec names.

    Args:
        spec: ``digits``, ``shapes`` or ``folder:PATH``.
        name: short name for tables and files; the spec's own unless given.
        domain: the word for what all classes are; the spec's own, or ``object``.
        limit: keep at most this many images, spread over the classes, the same ones on every machine.

    Raises:
        SemscaleError: unknown spec, or the loader's own complaint.
    """
    scheme, colon, rest = spec.partition(":")
    if spec in BUNDLED:
        dataset = load_bundled(spec)
    elif scheme == "folder" and colon:
        dataset = load_folder(rest, domain=domain or DEFAULT_DOMAIN)
    else:
        near = difflib.get_close_matches(spec, BUNDLED, n=1)
        raise SemscaleError(
            "unknown dataset",
            found=spec,
            expected=f"{', '.join(BUNDLED)} or folder:PATH",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    chosen = name or dataset.name
    dataset = dataclasses.replace(
        dataset, name=re.sub(r"[^A-Za-z0-9.-]+", "-", chosen).strip("-") or "dataset", domain=domain or dataset.domain
    )
    return dataset if limit is None else cut(dataset, limit)


def cut(dataset: Dataset, limit: int) -> Dataset:
    """Keep at most `limit` images: seeded by the file names, round robin over the classes, in the old order."""
    by_class: dict[str, list[Sample]] = {name: [] for name in dataset.classes}
    for sample in dataset.samples:
        by_class[sample.true_class].append(sample)
    for name, samples in by_class.items():
        # str seeds are hashed by random itself, so the same on every machine
        random.Random(f"{dataset.name}/{name}").shuffle(samples)
    turns = sorted(
        (turn, index, sample.file)
        for index, samples in enumerate(by_class.values())
        for turn, sample in enumerate(samples)
    )
    kept = {file for _, _, file in turns[:limit]}
    return dataclasses.replace(dataset, samples=[sample for sample in dataset.samples if sample.file in kept])
