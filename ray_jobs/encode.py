"""Stage 1 as a Ray job, the store filled ahead: `python ray_jobs/encode.py STUDY.yaml [OPTIONS]`.

It takes the options of `semscale encode`.
"""

import sys

from semscale.cli import main

main(["encode", *sys.argv[1:]], prog_name="semscale")
