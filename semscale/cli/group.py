"""The group of all commands: what its help says, and how mistakes, Ctrl-C and SIGTERM end."""

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
from semscale.common.environment import print_every_character, reach_loopback, shadowing
from semscale.common.errors import SemscaleError
from semscale.common.redact import printable, shown

_INTERRUPTED = 128 + signal.SIGINT
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Group(click.Group):
    """Group that prints user mistakes without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        print_every_character()
        reach_loopback()
        with _terminated() as is_terminated:
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
            # a command that knows a shorter way says so in its Abort
            click.echo(f"Stopped. {str(error) or 'The same command again'} goes on from here.", err=True)
            status = _INTERRUPTED
        except Exception as error:
            # a fault of ours: all of it is shown, except for passwords in the addresses that it speaks of
            click.echo(shown(traceback.format_exc()), err=True)
            for line in _surroundings(error):
                click.echo(line, err=True)
            status = 1
        return status if isinstance(status, int) else 0


def _surroundings(error: Exception) -> Iterator[str]:
    """Yield what of the user's surroundings may be the reason for a fault, and what to do about it."""
    if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
        yield f"names of files are {sys.getfilesystemencoding()} here: set PYTHONUTF8=1 in the environment"
    if isinstance(error, (ImportError, AttributeError)):
        folders = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        for file in shadowing(file for folder in folders for file in sorted(Path(folder).glob("*.py"))):
            yield f"{file} is imported in place of the module of that name: rename it"


@contextmanager
def _terminated() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM do what Ctrl-C does, and yield what tells whether it came."""
    came = threading.Event()

    def interrupt(number: int, frame: Any) -> None:
        came.set()
        # Ray Tune has one of its own; a shell's background jobs ignore Ctrl-C
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


_EPILOG = """\b
Exit status: 0 done
             1 a mistake that the message explains, or a check that does not pass
             2 wrong usage
             130 stopped by Ctrl-C, 143 by SIGTERM; what was done is kept

NO_COLOR in the environment leaves only plain text. `semscale COMMAND --help` has examples."""


@click.group(cls=_Group, context_settings=_CONTEXT, epilog=_EPILOG)
@click.version_option(semscale.__version__, prog_name="semscale")
def main() -> None:
    """Measure what happens to a CLIP model's labelling accuracy when every class gets more category texts.

    \b
    semscale sweep                    the bundled datasets and model, nothing else needed
    semscale sweep study.yaml         a study of your own
    semscale datasets check SPEC      what would a study see?
    semscale optimize DATASET         which categories are worth having?
    semscale label IMAGES --categories "cat,dog"
    semscale replay PATH              re-score what others published
    semscale compare RUN RUN          finished studies side by side
    semscale ui                       the newest study in MLflow
    semscale doctor                   is everything in place?
    """
