"""Schema of a study file: the grid of trials and how to run it; the commands' options are generated from it."""

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
from semscale.common.parsing import ValidationIssue
from semscale.common.redact import mask_url
from semscale.scoring import AGGREGATIONS

# strict: YAML's `yes` and "3" are not numbers
Natural = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

_AGGREGATIONS = [name for name in AGGREGATIONS if not name.startswith("top-")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(_Section):
    """A dataset of a study: its images, and its names in tables and templates."""

    spec: str = Field(min_length=1, description="digits, shapes, or a scheme and a path such as folder:PATH, zip:PATH")
    name: str | None = Field(default=None, description="short name in tables; the spec's own name unless set")
    domain: str | None = Field(default=None, description="noun for all classes, such as flower")
    class_from: str | None = Field(default=None, description="class from the path: {class}_{number}.jpg, or a pattern")
    classes: dict[str, str | None] | tuple[str, ...] | str | None = Field(
        default=None, description="names for labels: a mapping, a list for 0, 1, 2, ..., or a file with either"
    )
    split: str | None = Field(default=None, description="part to read: train, val, test, all, or the name of a split")
    image: str | None = Field(default=None, description="column or field with the image, its path or its URL")
    label: str | None = Field(default=None, description="column or field with the class")
    images: str | None = Field(default=None, description="folder or archive of a table's images")
    orientation: Literal["stored", "exif"] = Field(default="stored", description="exif: rotate by the EXIF tag")
    limit: Natural | None = Field(default=None, ge=1, description="at most this many images, stratified by class")
    per_class: Natural | None = Field(default=None, ge=1, description="at most this many images of each class")
    seed: Natural = Field(default=0, description="seed of the choice of images under a limit")

    @field_validator("classes", mode="before")
    @classmethod
    def _labels_are_texts(cls, value: Any) -> Any:
        # YAML reads the label 3 as a number
        return {str(key): name for key, name in value.items()} if isinstance(value, dict) else value

    @property
    def title(self) -> str:
        """Return the name of the dataset in the study file."""
        return self.name or self.spec


class StrategyConfig(_Section):
    """A strategy of a study, with its options."""

    strategy: str = Field(min_length=1, description="name of a registered strategy")
    name: str | None = Field(default=None, description="name in tables; the strategy's name unless set")
    options: dict[str, Any] = Field(default={}, description="see `semscale ladder --help`")
    short: Literal["stop", "stay"] = Field(default="stop", description="when a class runs out of equivalents")
    shared: Literal["refuse", "drop"] = Field(default="refuse", description="a text that two classes have")

    @property
    def label(self) -> str:
        """Return the name of the strategy in tables."""
        return self.name or self.strategy


class ServerConfig(_Section):
    """Clip-servers: endpoints, or the settings of a server that the sweep starts and stops."""

    urls: tuple[str, ...] = Field(
        default=(),
        description="grpc://host:port of a clip-server, a host name for many, or file:PATH with an address per line",
    )
    replicas: Natural = Field(default=2, ge=1, le=256, description="replicas of the sweep's own server")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="device of the sweep's own server")
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    trust_remote_code: StrictBool = Field(
        default=False, description="run Python code that comes with a model directory or download"
    )
    patience: Number = Field(default=120.0, gt=0, description="seconds without any server until the sweep stops")
    token_file: str | None = Field(default=None, description="file with the servers' token; see SEMSCALE_SERVER_TOKEN")
    ca_file: str | None = Field(default=None, description="PEM file of grpcs://'s authority; see SEMSCALE_SERVER_CA")

    @field_validator("urls")
    @classmethod
    def _urls_have_scheme_and_port(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not is_address(url) and not (url.startswith("file:") and len(url) > len("file:")):
                raise ValueError(f"{mask_url(url)!r} is not of the form grpc://host:port (or grpcs://, or file:PATH)")
        return urls


class EncodingConfig(_Section):
    """Transfer of images to the servers; only `draft` changes results."""

    batch_size: Natural | None = Field(default=None, ge=1, le=4096, description="images per request; else adaptive")
    actors: Natural | None = Field(default=None, ge=1, le=4096, description="encoder actors; else one per two CPUs")
    deadline: Number = Field(default=120.0, gt=0, description="timeout of a request in seconds")
    draft: StrictBool = Field(default=False, description="decode large JPEGs at reduced size: faster, other embeddings")


class ScoringConfig(_Section):
    """Device that scores ladders; it does not change predictions."""

    # torch:cpu runs the GPU's code on a CPU, for tests
    device: str = Field(
        default="cpu",
        pattern=r"^(cpu|torch:cpu|auto|cuda(:[0-9]{1,3})?)$",
        description="device for scoring: cpu, cuda (all GPUs of the cluster), cuda:N (in this process), auto",
    )


class TrackingConfig(_Section):
    """MLflow tracking: a server, or mlflow.db beside the run directories."""

    uri: str | None = Field(default=None, description="MLflow server; mlflow.db beside the run directory unless set")
    experiment: str = "semscale"
    artifacts: str | None = Field(default=None, description="artifact location of a new experiment: s3://...")


class RayConfig(_Section):
    """Ray cluster: the one at an address, or a local one for this sweep."""

    address: str | None = Field(default=None, description="Ray cluster to use; without it Ray runs on this machine")


class StudyConfig(_Section):
    """A study: the grid dataset x model x strategy x scale step, and how to run it."""

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
    steps: Natural = Field(default=12, ge=1, le=10_000, description="scale steps")
    scales: Literal["linear", "exponential"] | tuple[Natural, ...] = "linear"
    orders: tuple[Natural, ...] = Field(default=(0,), description="order of categories")
    aggregation: str | tuple[str, ...] = Field(
        default="max", description="max, mean-embedding, mean-similarity, logsumexp, or top-k-mean such as top-3-mean"
    )
    limit: Natural | None = Field(default=None, ge=1, description="at most this many images per dataset")
    max_bad_fraction: Number = Field(
        default=0.01, ge=0, lt=1, description="stop if a larger share of a dataset's images is unusable"
    )
    margin: Number = Field(default=0.5, ge=0, le=100, description="percentage points; smaller gains do not count")
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
        names = (value,) if isinstance(value, str) else value
        for name in names:
            if name not in _AGGREGATIONS and not re.fullmatch(r"top-[1-9]\d{0,2}-mean", name):
                raise ValueError(f"expected {', '.join(_AGGREGATIONS)} or top-k-mean such as top-3-mean")
        # a list of one name equals the name
        return names[0] if len(names) == 1 else names

    @field_validator("datasets", "models", "strategies", "orders", "controls", "aggregation")
    @classmethod
    def _some_and_different(cls, value: Any, info: ValidationInfo) -> Any:
        if not value and info.field_name != "controls":
            raise ValueError("at least one is needed, or the grid of trials is empty")
        items = (value,) if isinstance(value, str) else value
        names = [item.title if isinstance(item, DatasetConfig) else getattr(item, "label", str(item)) for item in items]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(map(mask_url, repeated))} is listed more than once")
        return value

    @field_validator("scales")
    @classmethod
    def _from_the_class_names_upwards(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(value, tuple) and (value[:1] != (1,) or any(b <= a for a, b in pairwise(value))):
            raise ValueError("expected a list that begins with 1 and rises, such as [1, 2, 4]")
        return value

    @property
    def aggregations(self) -> tuple[str, ...]:
        """Return the aggregations as a tuple."""
        return (self.aggregation,) if isinstance(self.aggregation, str) else self.aggregation

    def digest(self) -> str:
        """Return 8 hex digits of a digest of all settings that can change a result."""
        excluded = {"name", "encoder", "server", "encoding", "scoring", "tracking", "ray", "store", "max_bad_fraction"}
        result = self.model_dump(mode="json", exclude=excluded)
        if self.encoding.draft:
            result["draft"] = True
        return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()[:8]

    def to_yaml(self) -> str:
        """Return the resolved study as YAML that can be loaded, without passwords."""
        tree = self.model_dump(mode="json")
        if self.tracking.uri:
            tree["tracking"]["uri"] = mask_url(self.tracking.uri)
        for entry in tree["datasets"]:
            entry.update({key: mask_url(entry[key]) for key in ("spec", "images") if entry[key]})
        tree["server"]["urls"] = [mask_url(url) for url in self.server.urls]
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def contradictions(tree: Mapping[str, Any]) -> Iterator[ValidationIssue]:
    """Yield the settings of a study that contradict each other; the tree may be invalid otherwise.

    >>> list(contradictions({"steps": 5, "scales": [1, 2, 4]}))
    [(('steps',), 'contradicts scales, a list of 3; omit steps')]
    """
    steps, scales, server, models = (tree.get(key) for key in ("steps", "scales", "server", "models"))
    several = isinstance(models, (list, tuple)) and len(models) > 1
    if isinstance(server, Mapping) and server.get("urls") and several:
        yield ("server", "urls"), "serve one model; omit urls in a study with several models, or name one model"
    if isinstance(server, Mapping) and server.get("urls") and tree.get("encoder") == "local":
        yield ("encoder",), "is local, and the study names servers; omit one of the two"
    # a resolved study file has both, with the original steps
    default = StudyConfig.model_fields["steps"].default
    if isinstance(scales, (list, tuple)) and isinstance(steps, int) and steps not in (default, len(scales)):
        yield ("steps",), f"contradicts scales, a list of {len(scales)}; omit steps"
