"""Encoding: each distinct image and text is sent to a clip-server once, and its embedding is kept in the store."""

import os
import warnings

# before jina is imported: it asks the network for newer versions and reports usage unless these are set
os.environ.setdefault("NO_VERSION_CHECK", "1")
os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")
# its clients print errors, and raise them as well
os.environ.setdefault("JINA_LOG_LEVEL", "CRITICAL")
# jina imports pkg_resources (hence setuptools < 81), which a user cannot fix
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
# nor that it installs no handler of Ctrl-C when a thread imports it
warnings.filterwarnings("ignore", message="failed to set default signal handler")
