"""Stage 1 as a Ray job: `python ray_jobs/encode.py STUDY.yaml [OPTIONS]` fills the store; see `semscale encode`."""

import sys

from semscale.cli import main

main(["encode", *sys.argv[1:]], prog_name="semscale")
