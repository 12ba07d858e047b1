"""The packages ``datasets`` and ``huggingface_hub``, kept quiet, and asked in a way that cannot wait for minutes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from semscale.datasets.hubs.named import missing_package, short
from semscale.errors import SemscaleError

_PATIENCE_S = 10.0


def library() -> Any:
    """Import ``datasets``, silent: no bars, no telemetry, no warnings about retries and cards.

    Raises:
        SemscaleError: the package is missing.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    try:
        import datasets
        import huggingface_hub
    except ImportError as error:
        raise missing_package("hf", "hf", error) from error
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True  # another package may have imported it earlier
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    return datasets


def commit_on_hub(name: str, revision: str | None) -> str | None:
    """Return the commit of a dataset on the hub; None when the hub is out of reach, by choice or not.

    Raises:
        SemscaleError: the hub has no such dataset, or does not show it to this user.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if library().config.HF_HUB_OFFLINE:
        return None
    try:
        found: str | None = HfApi().dataset_info(name, revision=revision, timeout=_PATIENCE_S).sha
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise SemscaleError(
            "the hub has no such dataset, or does not show it to you",
            where=f"hf:{name}",
            found=short(error),
            hint="check the name; HF_TOKEN opens private and gated datasets",
        ) from error
    except Exception:  # no route, no name service, a proxy's page: the packages underneath raise nearly anything
        return None
    return found


@contextlib.contextmanager
def cache_only() -> Iterator[None]:
    """Look in the local cache alone; the packages would otherwise ask a silent hub again for half a minute."""
    import huggingface_hub

    switches = (library().config, huggingface_hub.constants)
    before = [module.HF_HUB_OFFLINE for module in switches]
    for module in switches:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in zip(switches, before, strict=True):
            module.HF_HUB_OFFLINE = value
