"""``semscale submit``: run a study as a job of a Ray cluster."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semscale.cli.group import main
from semscale.cli.study import read_options
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.config import StudyConfig
    from semscale.study.submit import Ended


@main.command()
@click.argument("study", type=click.Path(dir_okay=False, path_type=Path), metavar="STUDY.yaml")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS]")
@click.option(
    "--address", default="http://127.0.0.1:8265", show_default=True, envvar="RAY_API_SERVER_ADDRESS", metavar="URL",
    help="Dashboard of the cluster.",
)  # fmt: skip
@click.option(
    "--stage", type=click.Choice(["sweep", "encode", "score"]), default="sweep", show_default=True,
    help="Which command of semscale the job is.",
)  # fmt: skip
@click.option("--follow/--no-follow", default=True, help="Show the job's log until it ends.  [follow]")
@click.option(
    "--working-dir", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="DIR",
    help="Folder to upload, with the study in it; the job runs in a copy.  [this one]",
)  # fmt: skip
@click.option(
    "--runtime-env", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Ray's runtime environment.  [ray_jobs/runtime_env.yaml of the working directory, if it has one]",
)  # fmt: skip
def submit(
    study: Path,
    options: tuple[str, ...],
    address: str,
    stage: str,
    follow: bool,
    working_dir: Path,
    runtime_env: Path | None,
) -> None:
    """Run a study as a job of a Ray cluster, and exit with its status.

    The study is checked first; then the working directory is uploaded and the job started: `semscale sweep STUDY.yaml
    OPTIONS`. Ctrl-C stops following, not the job. The cluster's token is in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH,
    with RAY_AUTH_MODE=token; tokens of clip-servers are in the environment of the cluster's nodes.

    \b
    semscale submit study.yaml --address http://127.0.0.1:8265
    semscale submit study.yaml --no-follow -- --server grpc://gpu1:51000 --runs /shared/runs
    """
    inside = _place(study, working_dir)
    with contextlib.chdir(working_dir):  # as the job will see it
        config = _checked(inside, stage, options)
    from semscale.study.submit import Cluster, read_environment

    environment = read_environment(runtime_env, working_dir)
    cluster = Cluster(address)
    command = ["python", "-m", "semscale", stage, inside.as_posix(), *options]
    job = cluster.submit(command, environment, working_dir, config.name)
    click.echo(f"job      {job}")
    place = f"--address {cluster.address} {job}"
    goes_on = f"follow   ray job logs --follow {place}\nstop     ray job stop {place}"
    if not follow:
        click.echo(goes_on)
        return
    try:
        ended = cluster.follow(job, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on.\n{goes_on}", err=True)
        raise click.exceptions.Exit(130) from None
    _tell(job, ended)


def _place(study: Path, working_dir: Path) -> Path:
    """Return where the study lies in the copy of the working directory."""
    if not working_dir.is_dir():
        raise SemscaleError("no such folder", where="--working-dir", found=str(working_dir))
    if not study.is_file():
        raise SemscaleError("the study file does not exist", where=str(study))
    try:
        return study.resolve().relative_to(working_dir.resolve())
    except ValueError:
        raise SemscaleError(
            "the study is not in the folder that is uploaded",
            where=str(study),
            expected=f"a file in {working_dir.resolve()}",
            hint="name the study's folder with --working-dir",
        ) from None


def _checked(study: Path, stage: str, options: tuple[str, ...]) -> StudyConfig:
    """Return the study as the job will see it; every mistake shows before anything is sent."""
    from semscale.redact import redact

    public = [option for option in options if redact(option) != option]
    if public:
        raise SemscaleError(
            "a job's command line is no place for passwords: the dashboard shows it",
            found=", ".join(map(redact, public)),
            hint="write it into the study file, or set it in the environment of the cluster's nodes",
        )
    given = main.commands[stage].make_context(f"submit {study} --", [str(study), *options]).params
    if given.pop("resume", None) is not None:
        raise click.UsageError("a job is resumed by submitting the same study again, without --resume")
    for name in ("study", "quiet", "as_json"):
        given.pop(name)
    places = {f"--{name}": str(given.pop(name) or "") for name in ("out", "runs")}
    config = read_options(study, given, elsewhere=True)
    for place, folder in {**places, "store": config.store or ""}.items():
        if folder and not folder.startswith(("/", "~")) and "://" not in folder:
            raise SemscaleError(
                "a relative folder would be lost with the job's copy of the working directory",
                where=place,
                found=folder,
                expected="an absolute path that the head has, or all nodes for the store",
            )
    if config.ray.address is not None:
        raise SemscaleError(
            "a job runs on the cluster that it is submitted to",
            where=f"{study}, ray: address",
            found=redact(config.ray.address),
            hint="leave it away",
        )
    return config


def _tell(job: str, ended: Ended) -> None:
    if ended.status == "SUCCEEDED":
        return
    if not ended.started and ended.message:  # its log, which says why, does not exist
        click.echo(ended.message, err=True)
    click.echo(f"Error: job {job} {'was stopped' if ended.status == 'STOPPED' else 'failed'}", err=True)
    sys.exit(1)
