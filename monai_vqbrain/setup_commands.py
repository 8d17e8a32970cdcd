"""The commands about the installation: `vqbrain completion` and `vqbrain doctor`."""

from __future__ import annotations

import json

import click
from click.shell_completion import get_completion_class

from monai_vqbrain.options import common_options

PROGRAM = "vqbrain"
VARIABLE = "_VQBRAIN_COMPLETE"  # click's name for the program's
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@common_options
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a SHELL completes commands, options and their values.

    Save it where your shell looks for completions, and open a new shell.

    \b
    Example: vqbrain completion bash > ~/.local/share/bash-completion/completions/vqbrain
             vqbrain completion zsh > ~/.zfunc/_vqbrain
             vqbrain completion fish > ~/.config/fish/completions/vqbrain.fish
    """
    found = get_completion_class(shell)
    if found is None:  # of a future click
        raise click.UsageError(f"the installed version of click has no completion for {shell}")
    click.echo(found(context.find_root().command, {}, PROGRAM, VARIABLE).source())


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@common_options
def doctor(as_json: bool) -> None:
    """Print versions, threads, devices, extras and speed of this machine, and what is slow and why.

    Takes some seconds. The text can be pasted into a bug report: it names no user and no folder.

    \b
    Example: vqbrain doctor
             vqbrain doctor --json
    """
    from monai_vqbrain import doctor as examination

    facts = examination.examine()
    if as_json:
        click.echo(json.dumps(facts | {"advice": list(examination.advice(facts))}, indent=2))
    else:
        click.echo("\n".join(examination.lines(facts)))
