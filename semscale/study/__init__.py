"""The study pipeline: the four stages in order, resume, and progress."""

from __future__ import annotations

import os

# set before Ray is imported: no usage reports; Tune writes no logs of its own, leaves Ctrl-C to the sweep, and prints
# no tables between the progress bars
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
