"""What a study ran with: versions, and what its encoders say of themselves."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import semscale
from semscale.study.encode import EncodedModel

_PACKAGES = ("numpy", "pandas", "scipy", "ray", "mlflow", "clip-client", "jina", "pillow", "pyarrow")
_OF_ENCODER = ("architecture", "weights_sha256", "embedding_dim", "dtype", "device", "logit_scale", "versions")


def environment_of(encoded: Sequence[EncodedModel]) -> dict[str, Any]:
    """Return environment.json: nothing in it tells one occasion from another, or names a machine."""
    models: dict[str, dict[str, Any]] = {}
    for one in encoded:
        info = one.identity.info or {}
        models[one.identity.model] = {
            "encoder": one.identity.fingerprint,
            **{name: info[name] for name in _OF_ENCODER if info.get(name) is not None},
        }
    return {
        "semscale": semscale.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "models": models,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
