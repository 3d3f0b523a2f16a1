"""`errand up | demo`: all of Errand in one process."""

from typing import Annotated

import typer

from bot.cli.output import EXIT_FAILED
from bot.cli.process import run_process
from bot.demo import DEFAULT_REQUEST, Demo
from bot.observability import set_up_logs
from bot.signals import run_until_signalled
from bot.up import up as run_both


def up() -> None:
    """Everything in one process: a small team's whole installation. Ctrl-C ends it; tasks go on at the next start."""
    run_process(run_both)


def demo(
    say: Annotated[
        str, typer.Option(help="What to ask for.", show_default="mend the sample repository")
    ] = DEFAULT_REQUEST,
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
    run_until_signalled(demonstration.run())
    if not demonstration.succeeded:
        raise typer.Exit(EXIT_FAILED)
