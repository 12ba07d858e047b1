"""``python -m semscale`` is the command line."""

from semscale.cli import main

main()
