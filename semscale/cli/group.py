"""Command group of semscale: its help, error messages, and exit status, also after Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import semscale
from semscale.common.environment import bypass_proxies_for_loopback, escape_unencodable_output, files_shadowing_modules
from semscale.common.errors import SemscaleError
from semscale.common.redact import mask_url, printable

_INTERRUPTED = 128 + signal.SIGINT
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Group(click.Group):
    """Group that prints user errors without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        escape_unencodable_output()
        bypass_proxies_for_loopback()
        with _sigterm_as_interrupt() as is_terminated:
            status = self._run(*args, **{**kwargs, "standalone_mode": False})
        if status == _INTERRUPTED and is_terminated():
            status = 128 + signal.SIGTERM
        sys.exit(status)

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            status = super().main(*args, **kwargs)
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except SemscaleError as error:
            click.echo(f"Error: {printable(str(error))}", err=True)
            status = 1
        except (click.Abort, KeyboardInterrupt) as error:
            # the message of a command's Abort is the command that continues
            click.echo(f"Stopped. To continue: {str(error) or 'run the same command again'}", err=True)
            status = _INTERRUPTED
        except Exception as error:
            # a bug: the whole traceback, with passwords in addresses masked
            click.echo(mask_url(traceback.format_exc()), err=True)
            for line in _environment_hints(error):
                click.echo(line, err=True)
            status = 1
        return status if isinstance(status, int) else 0


def _environment_hints(error: Exception) -> Iterator[str]:
    """Yield causes of an exception in the user's environment, and their fixes."""
    if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
        yield f"file names are encoded as {sys.getfilesystemencoding()}: set PYTHONUTF8=1 in the environment"
    if isinstance(error, (ImportError, AttributeError)):
        folders = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        for file in files_shadowing_modules(file for folder in folders for file in sorted(Path(folder).glob("*.py"))):
            yield f"{file} hides the module of the same name: rename it"


@contextmanager
def _sigterm_as_interrupt() -> Iterator[Callable[[], bool]]:
    """Handle SIGTERM like Ctrl-C, and yield a function that returns whether it was received."""
    received = threading.Event()

    def interrupt(number: int, frame: Any) -> None:
        received.set()
        # Ray Tune installs its own handler; background jobs of a shell ignore SIGINT
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


_EPILOG = """\b
Exit status: 0 done
             1 an error that the message explains, or a failed check
             2 wrong usage
             130 stopped by Ctrl-C, 143 by SIGTERM; completed work is kept

NO_COLOR in the environment gives plain text. `semscale COMMAND --help` has examples."""


@click.group(cls=_Group, context_settings=_CONTEXT, epilog=_EPILOG)
@click.version_option(semscale.__version__, prog_name="semscale")
def main() -> None:
    """Measure how a CLIP model's labelling accuracy changes as every class gets more category texts.

    \b
    semscale sweep                    run the quickstart study: bundled datasets and model
    semscale sweep study.yaml         run your own study
    semscale datasets check SPEC      check a dataset
    semscale optimize DATASET         choose categories that raise the accuracy
    semscale label IMAGES --categories "cat,dog"
    semscale replay PATH              score published predictions again
    semscale compare RUN RUN          compare finished studies
    semscale ui                       open the newest study in MLflow
    semscale doctor                   check the installation
    """
