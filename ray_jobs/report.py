"""Ray job that regenerates a report: `python ray_jobs/report.py RUN`; see `semscale report`."""

import sys

from semscale.cli import main

main(["report", *sys.argv[1:]], prog_name="semscale")
