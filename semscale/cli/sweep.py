"""``semscale sweep``: run a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semscale.cli.complete import runs as runs_
from semscale.cli.group import main
from semscale.cli.output import json_option, only_json, print_json
from semscale.cli.study import RESULT_KEYS, place_options, read_options, study_options
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.config import StudyConfig


@main.command()
@click.argument("study", required=False, type=click.Path(dir_okay=False, path_type=Path), metavar="[STUDY.yaml]")
@place_options
@click.option("--resume", metavar="RUN", shell_complete=runs_, help="Go on with the study of this run directory.")
@study_options
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
@json_option(RESULT_KEYS)
def sweep(
    study: Path | None,
    out: str | None,
    runs: str | None,
    resume: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a study from images to conclusions.

    Encodes what is new, scores every scale step, records every trial in MLflow, and concludes per curve. Without
    STUDY.yaml it is the quickstart study: the bundled datasets and model. Options change the study. The same command
    again, or --resume with the run directory, goes on where it stopped, and sends nothing twice.

    \b
    semscale sweep --dataset folder:~/photos --model ViT-B-32::laion2b_s34b_b79k
    semscale sweep study.yaml --server grpc://gpu1:51000 --server grpc://gpu2:51000
    semscale sweep --resume semscale-runs/quickstart-1bfe32d8
    """
    from semscale.study.arms import make_arms
    from semscale.study.progress import open_console, reporter

    if resume is not None:
        study, out = _resumed(resume, study, out), resume
    config = read_options(study, options)
    if resume is not None:
        _check_secrets(config, resume)
    console = open_console(stderr=as_json)
    report = reporter(console, quiet=quiet)
    with only_json(as_json):
        arms = make_arms(config, report)  # a study that cannot be is refused before the engines are imported
    from semscale.study.documents import result_document
    from semscale.study.rundir import out_of
    from semscale.study.show import show_result
    from semscale.study.study import sweep as run

    folder = out_of(config, out, runs)
    try:
        with only_json(as_json):
            result = run(config, folder, report, arms)
    except KeyboardInterrupt:
        if not folder.local.exists():
            raise
        click.echo(err=True)  # closes the line on which the terminal shows ^C
        raise click.Abort(f"semscale sweep --resume {folder}") from None
    if as_json:
        print_json(result_document(result))
    else:
        show_result(console, result)


def _resumed(run: str, study: Path | None, out: str | None) -> Path:
    from semscale.study.rundir import study_file

    for option, given in (("STUDY.yaml", study), ("--out", out)):
        if given is not None:
            raise SemscaleError(
                "a run is resumed with its own study and in its own directory",
                where="--resume",
                found=f"{option} {given} beside it",
                hint=f"leave {option} away, or give the study without --resume",
            )
    return study_file(run)


def _check_secrets(config: StudyConfig, run: str) -> None:
    """Say what study.yaml does not hold, before something is tried with asterisks in place of a password."""
    places = {"tracking.uri": config.tracking.uri or "", **{url: url for url in config.server.urls}}
    places |= {f"datasets.{number}": entry.spec or "" for number, entry in enumerate(config.datasets)}
    hidden = [place for place, text in places.items() if "://***@" in text or text.endswith("?***")]
    if hidden:
        raise SemscaleError(
            "the run's study file holds no passwords and signatures, and this study needs them",
            where=f"{run}/study.yaml",
            found=", ".join(hidden),
            hint="give --tracking-uri, --server or the first command again; the run directory stays the same",
        )
