"""Ray job for a whole study: `python ray_jobs/sweep.py STUDY.yaml [OPTIONS]`; see `semscale sweep`."""

import sys

from semscale.cli import main

main(["sweep", *sys.argv[1:]], prog_name="semscale")
