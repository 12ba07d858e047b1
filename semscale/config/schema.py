"""Schema of a study file: the grid of trials and how it is carried out; the commands' options come from it as well."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationInfo, field_validator

from semscale.common.access import is_address
from semscale.common.redact import redact, shown
from semscale.scoring import AGGREGATIONS

# in YAML `yes` is true and "3" a text; neither is a number
Whole = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

_AGGREGATIONS = [name for name in AGGREGATIONS if not name.startswith("top-")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(_Section):
    """One dataset of a study: where its images lie, and what its tables and templates call it."""

    spec: str = Field(min_length=1, description="digits, shapes, or a scheme and a path such as folder:PATH, zip:PATH")
    name: str | None = Field(default=None, description="short name in tables; the spec's own name unless set")
    domain: str | None = Field(default=None, description="the word for what all classes are, such as flower")
    class_from: str | None = Field(default=None, description="class from the path: {class}_{number}.jpg, or a pattern")
    classes: dict[str, str | None] | tuple[str, ...] | str | None = Field(
        default=None, description="names for labels: a mapping, a list for 0, 1, 2, ..., or a file with either"
    )
    split: str | None = Field(default=None, description="the part to read: train, val, test, all, or its own name")
    image: str | None = Field(default=None, description="column or field with the image, its path or its URL")
    label: str | None = Field(default=None, description="column or field with the class")
    images: str | None = Field(default=None, description="folder or archive where a table's images lie")
    orientation: Literal["stored", "exif"] = Field(default="stored", description="exif turns pictures by their tag")
    limit: Whole | None = Field(default=None, ge=1, description="at most this many images, stratified by class")
    per_class: Whole | None = Field(default=None, ge=1, description="at most this many images of each class")
    seed: Whole = Field(default=0, description="chooses which images a limit keeps")

    @field_validator("classes", mode="before")
    @classmethod
    def _labels_are_texts(cls, value: Any) -> Any:
        # YAML reads the label 3 as a number
        return {str(key): name for key, name in value.items()} if isinstance(value, dict) else value

    @property
    def title(self) -> str:
        """Return what tells the dataset from the others in the study file."""
        return self.name or self.spec


class StrategyConfig(_Section):
    """One way of making categories, with what it needs to know."""

    strategy: str = Field(min_length=1, description="name of a registered strategy")
    name: str | None = Field(default=None, description="what tables call it; the strategy's name unless set")
    options: dict[str, Any] = Field(default={}, description="see `semscale ladder --help`")
    short: Literal["stop", "stay"] = Field(default="stop", description="when a class runs out of equivalents")
    shared: Literal["refuse", "drop"] = Field(default="refuse", description="a text that two classes have")

    @property
    def label(self) -> str:
        """Return the name under which the strategy stands in tables."""
        return self.name or self.strategy


class ServerConfig(_Section):
    """Which clip-servers encode: the given endpoints, or a server that the sweep starts and stops itself."""

    urls: tuple[str, ...] = Field(
        default=(),
        description="grpc://host:port of a clip-server, a name for many, or file:PATH with an address per line",
    )
    replicas: Whole = Field(default=2, ge=1, le=256, description="replicas of the sweep's own server")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="device of the sweep's own server")
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    trust_remote_code: StrictBool = Field(
        default=False, description="run Python that a model directory or download brings with it"
    )
    patience: Number = Field(default=120.0, gt=0, description="seconds that all servers may be away before it stops")
    token_file: str | None = Field(default=None, description="file with the servers' token; see SEMSCALE_SERVER_TOKEN")
    ca_file: str | None = Field(default=None, description="PEM file of grpcs://'s authority; see SEMSCALE_SERVER_CA")

    @field_validator("urls")
    @classmethod
    def _urls_have_scheme_and_port(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not is_address(url) and not (url.startswith("file:") and len(url) > len("file:")):
                raise ValueError(f"{shown(url)!r} is not of the form grpc://host:port (or grpcs://, or file:PATH)")
        return urls


class EncodingConfig(_Section):
    """How images travel to the servers; nothing here changes a result, but for `draft`."""

    batch_size: Whole | None = Field(default=None, ge=1, le=4096, description="images per request; adapted unless set")
    actors: Whole | None = Field(default=None, ge=1, le=4096, description="encoder actors; one per two CPUs unless set")
    deadline: Number = Field(default=120.0, gt=0, description="seconds that a server has to answer a request")
    draft: StrictBool = Field(default=False, description="decode large JPEGs at reduced size: faster, other embeddings")


class ScoringConfig(_Section):
    """Where ladders are scored; nothing here changes a prediction."""

    # torch:cpu is what a GPU does, done without one; for tests
    device: str = Field(
        default="cpu",
        pattern=r"^(cpu|torch:cpu|auto|cuda(:[0-9]{1,3})?)$",
        description="where to score: cpu, cuda (all GPUs of the cluster), cuda:N (in this process), auto",
    )


class TrackingConfig(_Section):
    """Where MLflow keeps the runs: a tracking server, or mlflow.db beside the run directories."""

    uri: str | None = Field(default=None, description="MLflow server; mlflow.db beside the run directory unless set")
    experiment: str = "semscale"
    artifacts: str | None = Field(default=None, description="where a new experiment keeps files: s3://...")


class RayConfig(_Section):
    """Which Ray cluster does the work: the one at this address, or a local one for this sweep."""

    address: str | None = Field(default=None, description="Ray cluster to use; without it Ray runs on this machine")


class StudyConfig(_Section):
    """A study: the grid dataset x model x strategy x scale step, and how it is carried out."""

    name: str = Field(default="quickstart", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    datasets: tuple[DatasetConfig, ...] = Field(
        default=(DatasetConfig(spec="digits"), DatasetConfig(spec="shapes")), description="see `semscale datasets`"
    )
    models: tuple[str, ...] = Field(
        default=("semscale-mini",),
        description="semscale-mini, ARCHITECTURE::PRETRAINED, hf-hub:NAME or ARCHITECTURE::FILE",
    )
    strategies: tuple[StrategyConfig, ...] = Field(
        default=(StrategyConfig(strategy="templates"), StrategyConfig(strategy="templates-fixed")),
        description="how categories are made",
    )
    controls: tuple[str, ...] = Field(default=("duplicates", "random-words"), description="as many texts, no meaning")
    steps: Whole = Field(default=12, ge=1, le=10_000, description="scale steps")
    scales: Literal["linear", "exponential"] | tuple[Whole, ...] = "linear"
    orders: tuple[Whole, ...] = Field(default=(0,), description="order of categories")
    aggregation: str | tuple[str, ...] = Field(
        default="max", description="max, mean-embedding, mean-similarity, logsumexp, or top-k-mean such as top-3-mean"
    )
    limit: Whole | None = Field(default=None, ge=1, description="at most this many images per dataset")
    max_bad_fraction: Number = Field(
        default=0.01, ge=0, lt=1, description="stop when more of a dataset's images are unusable"
    )
    margin: Number = Field(default=0.5, ge=0, le=100, description="points; smaller gains do not count")
    encoder: Literal["server", "local"] = Field(
        default="server", description="server: clip-servers; local: this process, without one; the results are the same"
    )
    server: ServerConfig = ServerConfig()
    encoding: EncodingConfig = EncodingConfig()
    scoring: ScoringConfig = ScoringConfig()
    tracking: TrackingConfig = TrackingConfig()
    ray: RayConfig = RayConfig()
    store: str | None = Field(
        default=None,
        description="embedding store, also s3://BUCKET/PREFIX; see SEMSCALE_STORE",
    )

    @field_validator("datasets", "strategies", mode="before")
    @classmethod
    def _plain_names(cls, value: Any, info: ValidationInfo) -> Any:
        key = "spec" if info.field_name == "datasets" else "strategy"
        if isinstance(value, (list, tuple)):
            return [{key: item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("aggregation")
    @classmethod
    def _known_aggregations(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        given = (value,) if isinstance(value, str) else value
        for name in given:
            if name not in _AGGREGATIONS and not re.fullmatch(r"top-[1-9]\d{0,2}-mean", name):
                raise ValueError(f"expected {', '.join(_AGGREGATIONS)} or top-k-mean such as top-3-mean")
        # a list of one is the same study as the name alone
        return given[0] if len(given) == 1 else given

    @field_validator("datasets", "models", "strategies", "orders", "controls", "aggregation")
    @classmethod
    def _some_and_different(cls, value: Any, info: ValidationInfo) -> Any:
        if not value and info.field_name != "controls":
            raise ValueError("at least one is needed, or the grid of trials is empty")
        items = (value,) if isinstance(value, str) else value
        names = [item.title if isinstance(item, DatasetConfig) else getattr(item, "label", str(item)) for item in items]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(map(shown, repeated))} stands here more than once")
        return value

    @field_validator("scales")
    @classmethod
    def _from_the_class_names_upwards(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(value, tuple) and (value[:1] != (1,) or any(b <= a for a, b in pairwise(value))):
            raise ValueError("expected a list that begins with 1 and rises, such as [1, 2, 4]")
        return value

    @property
    def aggregations(self) -> tuple[str, ...]:
        """Return the aggregations, one or several."""
        return (self.aggregation,) if isinstance(self.aggregation, str) else self.aggregation

    def digest(self) -> str:
        """Return 8 hex digits that name everything which can change a result, and nothing else."""
        aside = {"name", "encoder", "server", "encoding", "scoring", "tracking", "ray", "store", "max_bad_fraction"}
        result = self.model_dump(mode="json", exclude=aside)
        if self.encoding.draft:
            result["draft"] = True
        return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()[:8]

    def to_yaml(self) -> str:
        """Return the study as resolved, ready to be read again, without passwords."""
        tree = self.model_dump(mode="json")
        if self.tracking.uri:
            tree["tracking"]["uri"] = redact(self.tracking.uri)
        for entry in tree["datasets"]:
            entry.update({key: shown(entry[key]) for key in ("spec", "images") if entry[key]})
        tree["server"]["urls"] = [redact(url) for url in self.server.urls]
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def contradictions(tree: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Find what a study says in two ways that do not go together; the tree may be wrong in any other way.

    >>> list(contradictions({"steps": 5, "scales": [1, 2, 4]}))
    [(('steps',), 'contradicts scales, a list of 3; leave steps away')]
    """
    steps, scales, server, models = (tree.get(key) for key in ("steps", "scales", "server", "models"))
    several = isinstance(models, (list, tuple)) and len(models) > 1
    if isinstance(server, Mapping) and server.get("urls") and several:
        yield ("server", "urls"), "serve one model; give a study with several models no urls, or one model"
    if isinstance(server, Mapping) and server.get("urls") and tree.get("encoder") == "local":
        yield ("encoder",), "is local, and the study names servers; leave one of both away"
    # a resolved study file has both, the steps as they were
    default = StudyConfig.model_fields["steps"].default
    if isinstance(scales, (list, tuple)) and isinstance(steps, int) and steps not in (default, len(scales)):
        yield ("steps",), f"contradicts scales, a list of {len(scales)}; leave steps away"
