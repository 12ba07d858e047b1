"""Command ``semscale submit``: runs a study as a job on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semscale.cli.group import main
from semscale.cli.options import FILE, read_options
from semscale.common.environment import files_shadowing_modules
from semscale.common.errors import ClusterError, SemscaleError
from semscale.common.files import read_regular_file
from semscale.common.parsing import read_yaml
from semscale.common.redact import mask_url, printable, scrub
from semscale.common.text import counted

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

    from semscale.config import StudyConfig

# `ray job stop` then acts like Ctrl-C: the sweep stops its servers and prints how to continue
DEFAULT_ENVIRONMENT = {"env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "20"}}
NEVER_UPLOADED = ("token", "*.key", ".env", ".netrc", ".ssh/", "mlflow.db")
"""Patterns, as in a .gitignore, of files with secrets or other people's runs."""

_PROBE_SECONDS = 15.0
_MOST_MEGABYTES = 100
_MOST_NAMED = 8


@main.command()
@click.argument("study", type=click.Path(path_type=Path), metavar="STUDY.yaml")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS]")
@click.option(
    "--address", default="http://127.0.0.1:8265", show_default=True, envvar="RAY_API_SERVER_ADDRESS", metavar="URL",
    help="Address of the cluster's dashboard.",
)  # fmt: skip
@click.option("--stage", type=click.Choice(["sweep", "encode", "score"]), default="sweep", help="Command.  [sweep]")
@click.option("--follow/--no-follow", default=True, help="Show the job's log until it ends.  [follow]")
@click.option(
    "--working-dir", type=click.Path(path_type=Path), default=Path(), metavar="DIR",
    help="Folder to upload, with the study in it; the job runs in a copy.  [.]",
)  # fmt: skip
@click.option("--runtime-env", type=FILE, metavar="FILE", help="Ray runtime environment.  [ray_jobs/runtime_env.yaml]")
def submit(study: Path, options: tuple[str, ...], address: str, stage: str, working_dir: Path, **settings: Any) -> None:
    """Run a study as a job on a Ray cluster, and exit with its status.

    Checks the study, uploads the working directory and starts the job `semscale sweep STUDY.yaml OPTIONS`. Files named
    token, *.key, .env, .netrc or mlflow.db, and .ssh/, are not uploaded; more than 100 MB are refused. Ctrl-C stops
    following, not the job. The cluster's token is read from RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, with
    RAY_AUTH_MODE=token; tokens of clip-servers belong in the environment of the cluster's nodes.

    \b
    semscale submit study.yaml --address http://127.0.0.1:8265
    semscale submit study.yaml --no-follow -- --server grpc://gpu1:51000 --runs /shared/runs
    """
    if not (working_dir.is_dir() and study.resolve().is_relative_to(working_dir.resolve())):
        what, expected = "the study is not in the uploaded folder", f"a file in {working_dir.resolve()}"
        raise ClusterError(what, where=str(study), expected=expected, hint="name its folder with --working-dir")
    inside = study.resolve().relative_to(working_dir.resolve())
    with contextlib.chdir(working_dir):  # as the job will see it
        config = _check_study(inside, stage, options)
    environment = read_environment(settings["runtime_env"], working_dir)
    environment["excludes"] = [*environment.get("excludes", []), *NEVER_UPLOADED]
    sizes = _files_to_upload(working_dir, environment["excludes"])
    uploads = _check_upload(working_dir, sizes)
    address = address.rstrip("/")
    client = _connect(address)
    click.echo(f"uploads  {printable(uploads)}")
    with _cluster_errors(address, "the Ray cluster does not accept the job"):
        job = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "semscale", stage, inside.as_posix(), *options]),
            runtime_env={**environment, "working_dir": str(working_dir)},
            metadata={"study": config.name},
        )
    commands = (
        f"follow   ray job logs --follow --address {address} {job}\nstop     ray job stop --address {address} {job}"
    )
    click.echo(f"job      {job}")
    if not settings["follow"]:
        click.echo(commands)
        return
    try:
        with _cluster_errors(address, "the Ray cluster no longer answers", f"the job may still run:\n{commands}"):
            info = _follow(client, job)
    except KeyboardInterrupt:
        click.echo(f"\nThe job continues.\n{commands}", err=True)
        raise click.exceptions.Exit(130) from None
    if info.status != "SUCCEEDED":
        if info.status == "FAILED" and info.driver_exit_code is None and info.message:  # it has no log
            click.echo(info.message, err=True)
        raise click.ClickException(f"job {job} {'was stopped' if info.status == 'STOPPED' else 'failed'}")


def _check_study(study: Path, stage: str, options: tuple[str, ...]) -> StudyConfig:
    """Return the study as the job will see it; raise every error before anything is sent."""
    secrets = [mask_url(option) for option in options if mask_url(option) != option]
    if secrets:
        what = "the dashboard shows a job's command line, which must not contain passwords"
        hint = "write it into the study file, or set it in the environment of the cluster's nodes"
        raise ClusterError(what, found=", ".join(secrets), hint=hint)
    parameters = main.commands[stage].make_context(f"submit {study} --", [str(study), *options]).params
    if parameters.get("resume") is not None:
        raise click.UsageError("to resume a job, submit the same study again, without --resume")
    config = read_options(study, parameters, elsewhere=True)
    for where, folder in {"--out": parameters["out"], "--runs": parameters["runs"], "store": config.store}.items():
        if folder and not folder.startswith(("/", "~")) and "://" not in folder:
            what = "a relative folder would be lost with the job's copy of the working directory"
            expected = "an absolute path on the head, or for the store on all nodes"
            raise ClusterError(what, where=where, found=folder, expected=expected)
    if config.ray.address is not None:
        what, found = "a job runs on the cluster that it is submitted to", mask_url(config.ray.address)
        raise ClusterError(what, where="ray: address", found=found, hint="leave it out")
    return config


def read_environment(file: Path | None, working_dir: Path) -> dict[str, Any]:
    """Read a runtime environment; the default is that of the working directory, or `DEFAULT_ENVIRONMENT`."""
    path = file or working_dir / "ray_jobs" / "runtime_env.yaml"
    if file is None and not path.is_file():
        return dict(DEFAULT_ENVIRONMENT)
    try:
        environment = read_yaml(read_regular_file(path).decode("utf-8-sig"), str(path)).value
        if isinstance(environment, dict) and isinstance(environment.get("excludes", []), list):
            return environment
        found = f"a {type(environment).__name__}"
    except (OSError, ValueError, SemscaleError) as error:
        found = " ".join(str(error).split())[:200]
    expected = "a mapping with keys such as env_vars, excludes (a list), pip"
    raise ClusterError("cannot read the runtime environment", where=str(path), found=found, expected=expected)


def _files_to_upload(folder: Path, excludes: list[str]) -> dict[Path, int]:
    """Return the sizes of the files that Ray uploads from a folder, by relative path."""
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    sizes: dict[Path, int] = {}

    def take(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(folder)] = path.stat().st_size

    rules = packaging._get_excludes(folder, [*ray_constants.get_runtime_env_default_excludes(), *excludes])
    gitignore = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    packaging._dir_travel(folder, [rules], take, gitignore)
    return sizes


def _check_upload(folder: Path, sizes: Mapping[Path, int]) -> str:
    """Return a summary of the upload, largest files first; raise ClusterError if it is too large."""
    roots: Counter[str] = Counter()
    for path, size in sizes.items():
        roots[path.parts[0] + "/" * (len(path.parts) > 1)] += size
    total, names = sum(sizes.values()) / 1e6, [name for name, _ in roots.most_common()]
    largest = [f"{name} ({roots[name] / 1e6:,.1f} MB)" if roots[name] >= 1e5 else name for name in names[:_MOST_NAMED]]
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    summary = f"{counted(len(sizes), 'files', ',')}, {total:,.1f} MB: {', '.join(largest + more)}"
    if total > _MOST_MEGABYTES:
        where, expected = str(folder.absolute()), f"at most {_MOST_MEGABYTES} MB"
        hint = (
            "use a separate folder for the study (--working-dir), or exclude files with `excludes:` in "
            "ray_jobs/runtime_env.yaml or .gitignore; keep images where all nodes can reach them"
        )
        what = "the folder is too large for a job"
        raise ClusterError(what, where=where, found=summary, expected=expected, hint=hint)
    for file in files_shadowing_modules(folder / path for path in sizes if len(path.parts) == 1):
        click.echo(f"warning: {file.name} hides the module of the same name in the job: rename it", err=True)
    return summary


def _connect(address: str) -> JobSubmissionClient:
    """Return Ray's client once the dashboard answers: the client itself would wait forever."""
    import requests
    from ray.job_submission import JobSubmissionClient

    logging.disable(logging.WARNING)  # Ray logs every step of the upload
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):  # these would take precedence over the address
        os.environ.pop(name, None)
    hint = "the dashboard is at http://HEAD:8265; from outside: ssh -L 8265:127.0.0.1:8265 HEAD, or port-forward"
    with _cluster_errors(address, "no Ray dashboard answers", hint):
        answer = requests.get(f"{address}/api/version", timeout=_PROBE_SECONDS)
        if answer.status_code not in (401, 403) and "ray_version" not in answer.text:
            raise OSError(f"the server is not a Ray dashboard (status {answer.status_code})")
        return JobSubmissionClient(address)


def _follow(client: JobSubmissionClient, job: str) -> JobDetails:
    """Print the log of a job until it ends, and return its final state."""
    import asyncio  # slow to import for the other commands

    async def tail() -> None:
        async for text in client.tail_job_logs(job):
            click.echo(text, nl=False)

    asyncio.run(tail())
    while not (info := client.get_job_info(job)).status.is_terminal():  # the log may end earlier
        time.sleep(0.5)
    return info


@contextlib.contextmanager
def _cluster_errors(address: str, what: str, hint: str | None = None) -> Iterator[None]:
    """Convert the errors of Ray's client to ClusterError."""
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        what, found = "the Ray cluster refuses the token", "another token than the cluster's"
        hint = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        found = "no token" if "required" in str(error) else found
        raise ClusterError(what, where=mask_url(address), found=found, hint=hint) from error
    except (RuntimeError, ValueError, OSError, KeyError, ClientError) as error:  # requests' exceptions are OSErrors
        text = scrub(str(error) or type(error).__name__, address)
        cause = re.search(r"\[Errno -?\d+\] ([^'\"\])]+)", text)  # requests wraps it three times
        found = cause[1] if cause else text[:300]
        raise ClusterError(what, where=mask_url(address), found=found, hint=hint) from error
