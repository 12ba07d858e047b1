"""A study as a Ray job: sent to a cluster's dashboard, its log followed, its end told."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import yaml

from semscale.errors import SemscaleError
from semscale.redact import redact, without

# `ray job stop` is then what Ctrl-C is: the sweep ends its servers and says how to go on
DEFAULT_ENVIRONMENT = {"env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "20"}}
USUAL_FILE = Path("ray_jobs/runtime_env.yaml")

_PROBE_SECONDS = 15.0
# the head may start again, or a proxy cut a connection that was silent
_PATIENCE, _PAUSE = 60.0, 1.0
# either would win over the address that is given
_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
)


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        status: Ray's word for it: SUCCEEDED, FAILED or STOPPED.
        message: what Ray says of it; of a job whose command ran, its log says more.
        started: whether its command ran at all.
    """

    status: str
    message: str
    started: bool


class Cluster:
    """The job server of a Ray cluster.

    Args:
        address: of its dashboard, ``http://host:8265``. The token is Ray's own: ``RAY_AUTH_MODE=token`` with
            ``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH``.

    Raises:
        SemscaleError: nobody answers there, it is no Ray dashboard, or it wants another token.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        _probe(self.address)
        from ray.job_submission import JobSubmissionClient

        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._explained(), _without_variables():
            self._client = JobSubmissionClient(self.address)

    def submit(self, command: Sequence[str], environment: dict[str, Any], working_dir: Path, name: str) -> str:
        """Upload the working directory, start a job there, and return its id.

        Args:
            command: the job's command and its arguments; they are no place for secrets.
            environment: Ray's runtime environment.
            working_dir: the folder that the job runs in a copy of.
            name: of the study, for the dashboard.

        Raises:
            SemscaleError: the folder is too large, or the cluster does not take the job.
        """
        with self._explained():
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(command),
                    runtime_env={**environment, "working_dir": str(working_dir)},
                    metadata={"study": name},
                )
            )

    def follow(self, job: str, write: Callable[[str], None]) -> Ended:
        """Hand over the job's log as it grows, and return how the job ended.

        Raises:
            SemscaleError: the cluster does not answer any more; the job may go on.
        """
        return asyncio.run(self._follow(job, write))

    async def _follow(self, job: str, write: Callable[[str], None]) -> Ended:
        import aiohttp

        shown = 0
        heard = time.monotonic()
        while True:
            seen = 0
            try:
                async for text in self._client.tail_job_logs(job):
                    heard = time.monotonic()
                    seen += len(text)
                    if seen > shown:  # a new connection begins with the first line
                        write(text[-(seen - shown) :])
                        shown = seen
                info = await asyncio.to_thread(self._client.get_job_info, job)
                if info.status.is_terminal():
                    started = info.driver_exit_code is not None or str(info.status) == "STOPPED"
                    return Ended(str(info.status), info.message or "", started)
                heard = time.monotonic()
            except (RuntimeError, ConnectionError, aiohttp.ClientError, requests.RequestException) as error:
                if time.monotonic() - heard > _PATIENCE:
                    raise SemscaleError(
                        "the Ray cluster does not answer any more",
                        where=redact(self.address),
                        found=_line(error, self.address),
                        hint=f"the job may go on: ray job status --address {redact(self.address)} {job}",
                    ) from error
            await asyncio.sleep(_PAUSE)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        where = redact(self.address)
        try:
            yield
        except AuthenticationError as error:
            missing = "required" in str(error)
            raise SemscaleError(
                "the Ray cluster refuses the token",
                where=where,
                found="no token" if missing else "another token than the cluster's",
                hint="set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH",
            ) from error
        except (RuntimeError, ValueError, OSError, KeyError) as error:  # requests' exceptions are OSErrors
            raise SemscaleError(
                "the Ray cluster does not take the job", where=where, found=_line(error, where)
            ) from error


def read_environment(file: Path | None, working_dir: Path) -> dict[str, Any]:
    """Return the runtime environment of a file; without one, of the working directory's usual one or the built-in.

    Raises:
        SemscaleError: the file is missing or holds no runtime environment.
    """
    if file is None:
        file = working_dir / USUAL_FILE
        if not file.is_file():
            return {key: dict(value) for key, value in DEFAULT_ENVIRONMENT.items()}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SemscaleError(
            "the file of the runtime environment cannot be read", where=str(file), found=error.strerror
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SemscaleError("not a YAML file", where=str(file), found=" ".join(str(error).split())[:200]) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise SemscaleError(
            "not a runtime environment",
            where=str(file),
            found=type(found).__name__,
            expected="keys such as env_vars, excludes, pip",
        )
    variables = found.get("env_vars", {})
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise SemscaleError(
            "the variables of a runtime environment are texts", where=f"{file}, env_vars", expected='"1"'
        )
    return found


def _probe(address: str) -> None:
    """Make sure that something like a dashboard answers: Ray's own client waits for ever."""
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
            found=_line(error, address),
            hint="the address is the dashboard's, port 8265 of the head unless set; from outside: "
            "ssh -L 8265:127.0.0.1:8265 HEAD, or kubectl port-forward",
        ) from error
    if answer.status_code not in (200, 401, 403) or (answer.ok and "ray_version" not in answer.text):
        raise SemscaleError(
            "what answers is no Ray dashboard", where=where, found=f"status {answer.status_code} for /api/version"
        )


@contextmanager
def _without_variables() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _line(error: BaseException, address: str) -> str:
    said = without(str(error) or type(error).__name__, address)
    cause = re.search(r"\[Errno -?\d+\] ([^'\"\])]+)", said)  # requests wraps it three times
    return cause[1] if cause else said[:300]
