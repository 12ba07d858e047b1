"""Ray job for stages 2 to 4 from the store: `python ray_jobs/score.py STUDY.yaml [OPTIONS]`; see `semscale score`."""

import sys

from semscale.cli import main

main(["score", *sys.argv[1:]], prog_name="semscale")
