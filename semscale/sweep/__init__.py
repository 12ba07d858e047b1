"""The study run: the four stages in order, resume, and progress. ``semscale.sweep("study.yaml")`` runs a study."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

# before Ray is imported: no usage reports; Tune neither writes its own logs, nor takes Ctrl-C away from us, nor puts
# its tables between our progress bars
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")


class _Room(ModuleType):
    """A package that can be called, so that `semscale.sweep` is both the room and its function."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run a study; see :func:`semscale.sweep.call.sweep`."""
        return importlib.import_module("semscale.sweep.call").sweep(*arguments, **options)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return importlib.import_module, (self.__name__,)  # as Ray sends any other module to its workers


sys.modules[__name__].__class__ = _Room
