"""Commands ``semscale sweep``, and its stages on their own: ``encode``, ``score``, ``report``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semscale.cli.group import main
from semscale.cli.options import STUDY, SchemaCommand, completer, read_options
from semscale.cli.output import Result, json_option
from semscale.common.errors import ConfigError

if TYPE_CHECKING:
    from semscale.config import StudyConfig

_OUT = "Run directory, also s3://BUCKET/PREFIX.  [RUNS/NAME-ID]"
_RUNS = "Folder of run directories.  [SEMSCALE_RUNS or semscale-runs; in a Ray job in ~]"
_RESULT_KEYS = (
    "run, report (paths), mlflow (command or address), trials, images_sent, texts_sent, quarantined (counts), curves "
    "(rows of curves.parquet)"
)


def _study_command(keys: str) -> Callable[[Callable[..., Result]], click.Command]:
    """Declare a command with a study file and all options of a study; `keys` describes its JSON document."""

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
    "--resume", metavar="RUN", shell_complete=completer("run"), help="Continue the study of this run directory."
)
def sweep(study: Path | None, resume: str | None, **options: Any) -> Result:
    """Run a study from images to conclusions.

    Encodes images and texts that are not in the store, scores every scale step, records every trial in MLflow, and
    draws conclusions per curve. Without STUDY.yaml it runs the quickstart study: the bundled datasets and model.
    Options override the study file. The same command again, or --resume with the run directory, continues an
    interrupted sweep and encodes nothing twice.

    \b
    semscale sweep --dataset folder:~/photos --model ViT-B-32::laion2b_s34b_b79k
    semscale sweep study.yaml --server grpc://gpu1:51000 --server grpc://gpu2:51000
    semscale sweep --resume semscale-runs/quickstart-1bfe32d8
    """
    if resume is not None:
        from semscale.study.run_directory import study_file

        if study is not None or options["out"] is not None:
            raise click.UsageError("--resume excludes STUDY.yaml and --out: the run directory gives both")
        study, options["out"] = study_file(resume), resume
    config = read_options(study, options)
    if resume is not None:
        _refuse_masked_secrets(config, resume)
    return _run("sweep", config, options)


@_study_command("run, store (paths), images_sent, texts_sent, quarantined (counts)")
def encode(study: Path | None, **options: Any) -> Result:
    """Encode the images and texts of a study, without scoring them.

    Fills the embedding store for a later `semscale sweep` of the same study, or `semscale score`, which needs no
    server. Writes the ladders and the quarantine to the run directory.

    \b
    semscale encode study.yaml --server grpc://gpu1:51000 --store /shared/embeddings
    """
    return _run("encode", read_options(study, options), options)


@_study_command(_RESULT_KEYS)
def score(study: Path | None, **options: Any) -> Result:
    """Run a study from stored embeddings only.

    Like `semscale sweep`, but starts and contacts no server. Embeddings that the store lacks are reported.

    \b
    semscale score study.yaml --store /shared/embeddings
    """
    return _run("score", read_options(study, options), options)


@main.command()
@click.argument("run", metavar="RUN", shell_complete=completer("run"))
@json_option("report (its path)")
def report(run: str) -> Result:
    """Regenerate the report.html of a finished run directory from its tables.

    \b
    semscale report semscale-runs/quickstart-1bfe32d8
    """
    from semscale.common.progress import choose_reporter, open_console
    from semscale.study.result_tables import regenerate_report

    with choose_reporter(open_console(stderr=True)).stage("writing the report"):
        written = regenerate_report(run)
    document = {"report": written if written.is_remote else written.local}
    return Result(lambda: document, lambda: click.echo(f"report   {written}"))


def _run(stage: str, study: StudyConfig, options: dict[str, Any]) -> Result:
    from semscale.common.progress import choose_reporter, open_console
    from semscale.study.arms import make_arms

    console = open_console()
    progress = choose_reporter(console, quiet=options["quiet"])
    arms = make_arms(study, progress)  # refuses an impossible study before the engines are imported
    from semscale.cli.show import encode_document, show_encoded, show_sweep, sweep_document
    from semscale.study.run_directory import run_directory_for

    folder = run_directory_for(study, options["out"], options["runs"])
    if stage == "encode":
        from semscale.study.encoding_stage import encode_study

        encoded = encode_study(study, folder, progress, arms)
        return Result(lambda: encode_document(encoded), lambda: show_encoded(console, encoded))
    from semscale.study.pipeline import sweep as run

    try:
        result = run(study, folder, progress, arms, stored=stage == "score")
    except KeyboardInterrupt:
        if stage == "score" or not folder.local.exists():
            raise
        click.echo(err=True)  # ends the line on which the terminal shows ^C
        raise click.Abort(f"semscale sweep --resume {folder}") from None
    return Result(lambda: sweep_document(result), lambda: show_sweep(console, result))


def _refuse_masked_secrets(config: StudyConfig, run: str) -> None:
    """Raise ConfigError if an address in a run's study.yaml has asterisks in place of a password."""
    addresses = {"tracking.uri": config.tracking.uri or "", **{url: url for url in config.server.urls}}
    addresses |= {f"datasets.{number}": entry.spec for number, entry in enumerate(config.datasets)}
    masked = [key for key, address in addresses.items() if "://***@" in address or address.endswith("?***")]
    if masked:
        what = "the run's study file contains no passwords and signatures, and this study needs them"
        hint = "repeat the first command, or add --tracking-uri or --server; the run directory stays the same"
        raise ConfigError(what, where=f"{run}/study.yaml", found=", ".join(masked), hint=hint)
