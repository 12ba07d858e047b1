"""The group of all commands: what its help says, and how mistakes and Ctrl-C end."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import click

import semscale
from semscale.errors import SemscaleError
from semscale.redact import printable, shown

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Group(click.Group):
    """Group that prints user mistakes without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            status = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except SemscaleError as error:
            click.echo(f"Error: {printable(str(error))}", err=True)
            status = 1
        except (click.Abort, KeyboardInterrupt) as error:
            # a command that knows a shorter way says so in its Abort
            click.echo(f"Stopped. {str(error) or 'The same command again'} goes on from here.", err=True)
            status = 130
        except Exception:
            # a fault of ours: all of it is shown, except for passwords in the addresses that it speaks of
            click.echo(shown(traceback.format_exc()), err=True)
            status = 1
        sys.exit(status if isinstance(status, int) else 0)


_EPILOG = """\b
Exit status: 0 done
             1 a mistake that the message explains, or a check that does not pass
             2 wrong usage
             130 stopped by Ctrl-C; what was done is kept

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
