"""`errand linear`: the Linear app."""

import asyncio
from datetime import UTC, datetime

import typer

from bot.cli.output import EXIT_FAILED, complain, say
from bot.settings import Settings, load_settings
from bot.store.engine import Store
from bot.wiring import open_linear
from integrations.linear import guide

app = typer.Typer(help="The Linear app.", no_args_is_help=True, add_completion=False)


@app.callback()
def _linear() -> None:
    """The Linear app."""


@app.command("setup")
def setup() -> None:
    """Say what to make in Linear and what to set here, and try whether it works."""
    settings = load_settings()
    config, url = settings.linear, settings.public_url
    lines = [*guide.create(config, public_url=url), *guide.settings(config)]
    if config is not None:
        lines += guide.install(config, public_url=url, now=datetime.now(UTC))
    for line in lines:
        say(line)
    if config is None:
        return
    problems = asyncio.run(_problems(settings))
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(EXIT_FAILED)
    say("4. Linear answers, and accepts the app. Mention it in a ticket, or delegate one to it.")


async def _problems(settings: Settings) -> list[str]:
    """By a real call."""
    store = Store(settings.database)
    try:
        if (problem := await store.problem()) is not None:
            return [problem]
        channel = open_linear(settings, store)
        if channel is None:
            return []
        try:
            return await channel.check()
        finally:
            await channel.close()
    finally:
        await store.close()
