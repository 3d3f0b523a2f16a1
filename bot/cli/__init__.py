"""The command line, a module per group of commands."""

from importlib.metadata import version
from typing import Annotated

import typer

from bot.cli import admin, run, task
from bot.cli.output import EXIT_CODES, say

app = typer.Typer(
    name="errand",
    help="A mention becomes a pull request, made by an agent in a container of its own.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        say(f"errand {version('errand')}")
        raise typer.Exit


@app.callback()
def _errand(
    _show: Annotated[
        bool,
        typer.Option(
            "--version", help="Say which version this is.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What stands before every command."""


run.add_to(app)
admin.add_to(app)
app.add_typer(task.app, name="task")
