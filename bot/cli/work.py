"""`errand work`: imports nothing of `serve`, so that it starts quickly."""

from functools import partial
from typing import Annotated

import typer

from bot.cli.process import run_process
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
    run_process(partial(run_worker, drain=drain))
