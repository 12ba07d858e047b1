"""``python -m semscale`` is the command line."""

import os
import sys

# `-m` puts the working folder first, where a file of the user's, such as random.py, would be taken for a library's
if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

from semscale.cli import main

main()
