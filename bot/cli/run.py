"""`errand up | serve | work | demo`: the processes."""

from typing import Annotated

import typer

from bot import processes
from bot.cli.output import EXIT_FAILED
from bot.demo import DEFAULT_REQUEST, Demo
from bot.observability import set_up_logs
from bot.settings import Settings, load_settings


def add_to(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(serve)
    app.command()(work)
    app.command()(demo)


def _settings() -> Settings:
    settings = load_settings()
    set_up_logs(json=settings.log_json)
    return settings


def up() -> None:
    """Everything in one process: a small team's whole installation. Ctrl-C ends it; tasks go on at the next start."""
    processes.run_until_signalled(processes.up(_settings()))


def serve() -> None:
    """HTTP, channels, dispatch, publication, replies. Holds no Docker socket."""
    processes.run_until_signalled(processes.serve(_settings()))


def work() -> None:
    """Run agents on this Docker host. Holds no chat or write token."""
    processes.run_until_signalled(processes.work(_settings()))


def demo(
    say: Annotated[str, typer.Option(help="What to ask for.")] = DEFAULT_REQUEST,
    *,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat", help="Go on in conversation: a line is a message, /new starts anew."
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--serve", help="Stay up, so that the pull request opens in a browser.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the logs too.")] = False,
) -> None:
    """A whole errand on this machine, without any account: sample repository, sandbox, pull request."""
    set_up_logs(json=False, level="info" if verbose else "critical")
    demonstration = Demo(request=say, chat=chat, keep=keep)
    processes.run_until_signalled(demonstration.run())
    if not demonstration.succeeded:
        raise typer.Exit(EXIT_FAILED)
