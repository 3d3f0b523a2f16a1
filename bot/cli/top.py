"""`errand top`: what runs where, now."""

import sys
from typing import Annotated

import typer

from bot import overview
from bot.cli.database import with_store
from bot.cli.live import keep_showing, overview_text
from bot.cli.output import AsJson, print_json
from bot.intake import utc_now
from bot.overview import Overview
from bot.settings import load_settings
from bot.store.engine import Store


def top(
    as_json: AsJson = False,
    once: Annotated[bool, typer.Option("--once", help="Show it and end.")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, help="Between two looks.")] = 1.0,
) -> None:
    """What runs where, renewed until Ctrl-C; once, where standard output is no terminal."""
    settings = load_settings()
    ends = as_json or once or not sys.stdout.isatty()

    async def work(store: Store) -> Overview:
        async def look() -> Overview:
            return await overview.look(store, settings, now=utc_now())

        if as_json:
            return await look()
        return await keep_showing(look, overview_text, seconds=seconds, over=lambda _: ends)

    seen = with_store(settings, work)
    if as_json:
        print_json(seen.model_dump(mode="json"))
