"""`errand work`: imports nothing of `serve`, so that it starts quickly."""

from typing import Annotated

import typer

from bot.observability import set_up_logs
from bot.settings import load_settings
from bot.signals import run_until_signalled
from bot.workshop import work as run_worker


def work(
    drain: Annotated[
        bool,
        typer.Option(
            "--drain", help="Take nothing new, wait until what runs here has ended, then end."
        ),
    ] = False,
) -> None:
    """Run agents on this Docker host. Holds no chat or write token."""
    settings = load_settings()
    set_up_logs(json=settings.log_json)
    run_until_signalled(run_worker(settings, drain=drain))
