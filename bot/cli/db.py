"""`errand db`: the database's schema."""

import typer

from bot.cli.database import with_store
from bot.cli.output import say
from bot.settings import load_settings
from bot.store.engine import Store

app = typer.Typer(help="The database.", no_args_is_help=True, add_completion=False)


@app.callback()
def _db() -> None:
    """The database."""


@app.command("upgrade")
def upgrade() -> None:
    """Bring the database to this version's schema. `serve` and `up` do it by themselves."""

    async def work(store: Store) -> str | None:
        await store.upgrade()
        return await store.revision()

    say(f"at revision {with_store(load_settings(), work, upgraded=False)}")
