"""Ray job for stage 1, encoding: `python ray_jobs/encode.py STUDY.yaml [OPTIONS]`; see `semscale encode`."""

import sys

from semscale.cli import main

main(["encode", *sys.argv[1:]], prog_name="semscale")
