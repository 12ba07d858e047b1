"""``semscale sweep``, and parts of a study by themselves: ``encode``, ``score``, ``report``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semscale.cli.group import main
from semscale.cli.options import STUDY, SchemaCommand, completer, read_options
from semscale.cli.output import Result, json_option
from semscale.common.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.config import StudyConfig

_OUT = "Run directory, also s3://BUCKET/PREFIX.  [RUNS/NAME-ID]"
_RUNS = "Folder of run directories.  [SEMSCALE_RUNS or semscale-runs; in a Ray job in ~]"
_RESULT_KEYS = (
    "run, report (places), mlflow (what opens it), trials, images_sent, texts_sent, quarantined (counts), curves (rows "
    "of curves.parquet)"
)


def _study_command(keys: str) -> Callable[[Callable[..., Result]], click.Command]:
    """Declare a command that takes a study file and all options of a study; `keys` are those of its JSON document."""

    def declare(function: Callable[..., Result]) -> click.Command:
        command: Callable[..., Any] = json_option(keys)(function)
        for decorate in (
            click.option("--quiet", is_flag=True, help="No progress, only the result."),
            click.option("--runs", metavar="DIR", help=_RUNS),
            click.option("--out", metavar="DIR", help=_OUT),
            click.option("--no-controls", is_flag=True, help="No control arms."),
            click.argument("study", required=False, type=click.Path(path_type=Path), metavar="[STUDY.yaml]"),
        ):
            command = decorate(command)
        return main.command(cls=SchemaCommand, keys=STUDY)(command)

    return declare


@_study_command(_RESULT_KEYS)
@click.option(
    "--resume", metavar="RUN", shell_complete=completer("run"), help="Go on with the study of this run directory."
)
def sweep(study: Path | None, resume: str | None, **options: Any) -> Result:
    """Run a study from images to conclusions.

    Encodes what is new, scores every scale step, records every trial in MLflow, and concludes per curve. Without
    STUDY.yaml it is the quickstart study: the bundled datasets and model. Options change the study. The same command
    again, or --resume with the run directory, goes on where it stopped, and sends nothing twice.

    \b
    semscale sweep --dataset folder:~/photos --model ViT-B-32::laion2b_s34b_b79k
    semscale sweep study.yaml --server grpc://gpu1:51000 --server grpc://gpu2:51000
    semscale sweep --resume semscale-runs/quickstart-1bfe32d8
    """
    if resume is not None:
        from semscale.study.run_directory import study_file

        if study is not None or options["out"] is not None:
            raise click.UsageError("--resume goes with neither STUDY.yaml nor --out: the run directory says both")
        study, options["out"] = study_file(resume), resume
    config = read_options(study, options)
    if resume is not None:
        _check_secrets(config, resume)
    return _run("sweep", config, options)


@_study_command("run, store (places), images_sent, texts_sent, quarantined (counts)")
def encode(study: Path | None, **options: Any) -> Result:
    """Encode a study's images and texts and stop there.

    Fills the embedding store, so that `semscale sweep` with the same study, or `semscale score` where no server is,
    goes on from it. The run directory gets the ladders and the quarantine.

    \b
    semscale encode study.yaml --server grpc://gpu1:51000 --store /shared/embeddings
    """
    return _run("encode", read_options(study, options), options)


@_study_command(_RESULT_KEYS)
def score(study: Path | None, **options: Any) -> Result:
    """Run a study whose embeddings are all in the store.

    Everything of `semscale sweep` but the servers: none is asked or started. What the store lacks is said.

    \b
    semscale score study.yaml --store /shared/embeddings
    """
    return _run("score", read_options(study, options), options)


@main.command()
@click.argument("run", metavar="RUN", shell_complete=completer("run"))
@json_option("report (its place)")
def report(run: str) -> Result:
    """Write the report.html of a finished run directory again, from its tables.

    \b
    semscale report semscale-runs/quickstart-1bfe32d8
    """
    from semscale.common.progress import open_console, reporter
    from semscale.study.result_tables import regenerate_report

    with reporter(open_console(stderr=True)).stage("writing the report"):
        written = regenerate_report(run)
    document = {"report": written if written.is_remote else written.local}
    return Result(lambda: document, lambda: click.echo(f"report   {written}"))


def _run(stage: str, study: StudyConfig, options: dict[str, Any]) -> Result:
    from semscale.common.progress import open_console, reporter
    from semscale.study.arms import make_arms

    console = open_console()
    progress = reporter(console, quiet=options["quiet"])
    arms = make_arms(study, progress)  # a study that cannot be is refused before the engines are imported
    from semscale.cli.show import filled_document, result_document, show_filled, show_result
    from semscale.study.run_directory import run_directory_for

    folder = run_directory_for(study, options["out"], options["runs"])
    if stage == "encode":
        from semscale.study.encoding_stage import encode_study

        filled = encode_study(study, folder, progress, arms)
        return Result(lambda: filled_document(filled), lambda: show_filled(console, filled))
    from semscale.study.pipeline import sweep as run

    try:
        result = run(study, folder, progress, arms, stored=stage == "score")
    except KeyboardInterrupt:
        if stage == "score" or not folder.local.exists():
            raise
        click.echo(err=True)  # closes the line on which the terminal shows ^C
        raise click.Abort(f"semscale sweep --resume {folder}") from None
    return Result(lambda: result_document(result), lambda: show_result(console, result))


def _check_secrets(config: StudyConfig, run: str) -> None:
    """Say what study.yaml does not hold, before something is tried with asterisks in place of a password."""
    places = {"tracking.uri": config.tracking.uri or "", **{url: url for url in config.server.urls}}
    places |= {f"datasets.{number}": entry.spec for number, entry in enumerate(config.datasets)}
    hidden = [place for place, text in places.items() if "://***@" in text or text.endswith("?***")]
    if hidden:
        what = "the run's study file holds no passwords and signatures, and this study needs them"
        hint = "give --tracking-uri, --server or the first command again; the run directory stays the same"
        raise SemscaleError(what, where=f"{run}/study.yaml", found=", ".join(hidden), hint=hint)
