"""The command line, a module per command or group; each is imported when it is called."""

import gc
import importlib
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType, ModuleType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typing_extensions import override

from bot.cli.output import EXIT_CODES, say

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "up": "bot.cli.run:up",
        "serve": "bot.cli.serve:serve",
        "work": "bot.cli.work:work",
        "demo": "bot.cli.run:demo",
        "doctor": "bot.cli.doctor:doctor",
        "task": "bot.cli.task:app",
        "top": "bot.cli.top:top",
        "inbox": "bot.cli.inbox:app",
        "outbox": "bot.cli.outbox:app",
        "aside": "bot.cli.aside:app",
        "image": "bot.cli.image:app",
        "sandbox": "bot.cli.sandbox:app",
        "egress": "bot.cli.egress:app",
        "db": "bot.cli.db:app",
        "backup": "bot.cli.backup:backup",
        "restore": "bot.cli.backup:restore",
        "restored": "bot.cli.backup:restored",
        "config": "bot.cli.config:app",
        "audit": "bot.cli.audit:app",
        "policy": "bot.cli.policy:app",
        "linear": "bot.cli.linear:app",
    }
)
"""Where each is: a function, or an app with more commands."""


def _imported(module: str) -> ModuleType:
    """What is imported stays: looking through it for garbage would be an eighth of the time."""
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


class _OnDemand(TyperGroup):
    # Any: typer has click's classes inside and does not show them.
    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(_imported(module), name)
        if not isinstance(found, typer.Typer):
            function, found = found, typer.Typer(add_completion=False)
            found.command()(function)
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="errand",
    cls=_OnDemand,
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
