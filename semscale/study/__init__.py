"""The study pipeline: the four stages in order, resume, and progress."""

from __future__ import annotations

import os

# before Ray is imported: no usage reports; Tune neither writes its own logs, nor takes Ctrl-C away from us, nor puts
# its tables between our progress bars
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
