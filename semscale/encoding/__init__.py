"""Stage 1, encode: every unique image and text goes to a clip-server once and stays in a content-addressed store."""

import os
import warnings

# before jina is imported: it asks the network for newer versions and reports usage unless told not to
os.environ.setdefault("NO_VERSION_CHECK", "1")
os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")
# its clients print whatever goes wrong, and raise it as well
os.environ.setdefault("JINA_LOG_LEVEL", "CRITICAL")
# jina's pkg_resources is the reason for setuptools < 81, and nothing that a user could mend
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
# nor that it leaves Ctrl-C alone where a thread imports it
warnings.filterwarnings("ignore", message="failed to set default signal handler")
