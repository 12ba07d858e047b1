"""``semscale submit``: run a study as a job of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import yaml

from semscale.cli.group import main
from semscale.cli.options import read_options
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from semscale.config import StudyConfig

# `ray job stop` is then what Ctrl-C is: the sweep ends its servers and says how to go on
DEFAULT_ENVIRONMENT = {"env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "20"}}
USUAL_FILE = Path("ray_jobs/runtime_env.yaml")
NEVER_UPLOADED = ("token", "*.key", ".env", ".netrc", ".ssh/", "mlflow.db")
"""Patterns, as in a .gitignore, of files that hold secrets or other people's runs."""

_PROBE_SECONDS = 15.0


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
    study: Path, options: tuple[str, ...], address: str, stage: str, follow: bool, working_dir: Path, **files: Any
) -> None:
    """Run a study as a job of a Ray cluster, and exit with its status.

    The study is checked first; then the working directory is uploaded and the job started: `semscale sweep STUDY.yaml
    OPTIONS`. Files that are named token, *.key, .env, .netrc or mlflow.db, and .ssh/, are not uploaded. Ctrl-C stops
    following, not the job. The cluster's token is in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, with RAY_AUTH_MODE=token;
    tokens of clip-servers are in the environment of the cluster's nodes.

    \b
    semscale submit study.yaml --address http://127.0.0.1:8265
    semscale submit study.yaml --no-follow -- --server grpc://gpu1:51000 --runs /shared/runs
    """
    import asyncio  # not for every other command

    inside = _path_in_upload(study, working_dir)
    with contextlib.chdir(working_dir):  # as the job will see it
        config = _checked(inside, stage, options)
    environment = read_environment(files["runtime_env"], working_dir)
    environment["excludes"] = [*environment.get("excludes", []), *NEVER_UPLOADED]
    address = address.rstrip("/")
    _check_dashboard(address)
    with _explained(address):
        client = _connect(address)
        job = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "semscale", stage, inside.as_posix(), *options]),
            runtime_env={**environment, "working_dir": str(working_dir)},
            metadata={"study": config.name},
        )
    click.echo(f"job      {job}")
    place = f"--address {address} {job}"
    commands = f"follow   ray job logs --follow {place}\nstop     ray job stop {place}"
    if not follow:
        click.echo(commands)
        return
    try:
        with _explained(address, "the Ray cluster does not answer any more", f"the job may go on:\n{commands}"):
            asyncio.run(_follow(client, job))
            info = client.get_job_info(job)
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on.\n{commands}", err=True)
        raise click.exceptions.Exit(130) from None
    if info.status == "SUCCEEDED":
        return
    stopped = info.status == "STOPPED"
    if not stopped and info.driver_exit_code is None and info.message:  # it has no log that says why
        click.echo(info.message, err=True)
    click.echo(f"Error: job {job} {'was stopped' if stopped else 'failed'}", err=True)
    raise click.exceptions.Exit(1)


def _path_in_upload(study: Path, working_dir: Path) -> Path:
    if not working_dir.is_dir():
        raise SemscaleError("no such folder", where="--working-dir", found=str(working_dir))
    if not study.is_file():
        raise SemscaleError("the study file does not exist", where=str(study))
    if not study.resolve().is_relative_to(working_dir.resolve()):
        raise SemscaleError(
            "the study is not in the folder that is uploaded",
            where=str(study),
            expected=f"a file in {working_dir.resolve()}",
            hint="name the study's folder with --working-dir",
        )
    return study.resolve().relative_to(working_dir.resolve())


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
    folders = {f"--{name}": str(given.pop(name) or "") for name in ("out", "runs")}
    config = read_options(study, given, elsewhere=True)
    for where, folder in {**folders, "store": config.store or ""}.items():
        if folder and not folder.startswith(("/", "~")) and "://" not in folder:
            raise SemscaleError(
                "a relative folder would be lost with the job's copy of the working directory",
                where=where,
                found=folder,
                expected="an absolute path that the head has, or all nodes for the store",
            )
    if config.ray.address is not None:
        raise SemscaleError(
            "a job runs on the cluster that it is submitted to",
            where=f"{study}, ray: address",
            found=redact(config.ray.address),
            hint="leave it out",
        )
    return config


def read_environment(file: Path | None, working_dir: Path) -> dict[str, Any]:
    """Return the runtime environment of a file; the default is the working directory's usual one or the built-in.

    Raises:
        SemscaleError: the file cannot be read or holds no runtime environment.
    """
    if file is None:
        file = working_dir / USUAL_FILE
        if not file.is_file():
            return {key: dict(value) for key, value in DEFAULT_ENVIRONMENT.items()}
    try:
        environment = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise SemscaleError(
            "the file of the runtime environment cannot be read", where=str(file), found=reason
        ) from error
    if not isinstance(environment, dict) or not isinstance(environment.get("excludes", []), list):
        raise SemscaleError(
            "not a runtime environment",
            where=str(file),
            found=type(environment).__name__,
            expected="keys such as env_vars, excludes (a list), pip",
        )
    return environment


def _connect(address: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    logging.disable(logging.WARNING)  # Ray reports every step of the upload
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):  # each would win over the address that is given
        os.environ.pop(name, None)
    return JobSubmissionClient(address)


def _check_dashboard(address: str) -> None:
    """Make sure that a dashboard answers; Ray's own client waits for ever."""
    import requests

    from semscale.redact import redact

    where = redact(address)
    try:
        parts = urlsplit(address)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise SemscaleError(
            "not the address of a Ray dashboard", where="--address", found=where, expected="http://host:8265"
        )
    try:
        answer = requests.get(f"{address}/api/version", timeout=_PROBE_SECONDS)
    except requests.RequestException as error:
        raise SemscaleError(
            "no Ray cluster answers",
            where=where,
            found=_reason(error, address),
            hint="the address is the dashboard's, port 8265 of the head unless set; from outside: "
            "ssh -L 8265:127.0.0.1:8265 HEAD, or kubectl port-forward",
        ) from error
    if answer.status_code not in (200, 401, 403) or (answer.ok and "ray_version" not in answer.text):
        raise SemscaleError(
            "what answers is no Ray dashboard", where=where, found=f"status {answer.status_code} for /api/version"
        )


async def _follow(client: JobSubmissionClient, job: str) -> None:
    import asyncio

    shown = 0
    while not client.get_job_status(job).is_terminal():
        read = 0
        async for text in client.tail_job_logs(job):  # each connection begins with the first line
            read += len(text)
            if read > shown:
                click.echo(text[shown - read :], nl=False)
                shown = read
        await asyncio.sleep(0.5)


@contextlib.contextmanager
def _explained(
    address: str, what: str = "the Ray cluster does not take the job", hint: str | None = None
) -> Iterator[None]:
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError

    from semscale.redact import redact

    try:
        yield
    except AuthenticationError as error:
        raise SemscaleError(
            "the Ray cluster refuses the token",
            where=redact(address),
            found="no token" if "required" in str(error) else "another token than the cluster's",
            hint="set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH",
        ) from error
    except (RuntimeError, ValueError, OSError, KeyError, ClientError) as error:  # requests' exceptions are OSErrors
        raise SemscaleError(what, where=redact(address), found=_reason(error, address), hint=hint) from error


def _reason(error: BaseException, address: str) -> str:
    from semscale.redact import without

    text = without(str(error) or type(error).__name__, address)
    cause = re.search(r"\[Errno -?\d+\] ([^'\"\])]+)", text)  # requests wraps it three times
    return cause[1] if cause else text[:300]
