"""``semscale completion``: completion of commands, options and names in the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from semscale.cli.group import main

# what the script calls semscale with; fixed by its name
_VARIABLE = "_SEMSCALE_COMPLETE"


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names in a shell.

    Names are those of bundled datasets, strategies, controls, aggregations, models and of run directories. The places
    below are read by new shells; bash needs version 4.4 and its package bash-completion.

    \b
    semscale completion bash  > ~/.local/share/bash-completion/completions/semscale
    semscale completion zsh   > "${fpath[1]}/_semscale"
    semscale completion fish  > ~/.config/fish/completions/semscale.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(main, {}, "semscale", _VARIABLE)
    # source() would also ask this machine's bash for its version
    click.echo(made.source_template % made.source_vars())
