"""Stages 2 to 4 as a Ray job, from the store alone: `python ray_jobs/score.py STUDY.yaml [OPTIONS]`.

It takes the options of `semscale score`.
"""

import sys

from semscale.cli import main

main(["score", *sys.argv[1:]], prog_name="semscale")
