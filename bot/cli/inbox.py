"""`errand inbox`: what was asked, and could not be dealt with."""

from typing import Annotated

import typer

from bot.cli.database import with_store
from bot.cli.output import EXIT_NOT_FOUND, AsJson, complain, print_json, print_table, say
from bot.intake import utc_now
from bot.record import OPERATOR, record
from bot.settings import load_settings
from bot.store import inbox
from bot.store.engine import Store
from bot.store.rows import DeadRow

app = typer.Typer(help="Deliveries that failed.", no_args_is_help=True, add_completion=False)
SHORT = 60


@app.command("list")
def list_(
    as_json: AsJson = False, limit: Annotated[int, typer.Option(min=1, max=1000)] = 50
) -> None:
    """What failed for good, and why; the newest first."""

    async def work(store: Store) -> list[DeadRow]:
        async with store.read() as conn:
            return await inbox.dead(conn, limit=limit)

    rows = with_store(load_settings(), work)
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
    elif not rows:
        say("no delivery is dead")
    else:
        print_table(
            ["delivery", "from", "by", "came (UTC)", "text", "error"],
            [
                (
                    row.id,
                    row.inbound.conversation.where if row.inbound else row.source,
                    row.inbound.author if row.inbound else "",
                    f"{row.received_at:%m-%d %H:%M}",
                    row.inbound.text[:SHORT] if row.inbound else "",
                    row.error if row.inbound else "can't be read: damaged, or of another version",
                )
                for row in rows
            ],
        )


@app.command("retry")
def retry(
    delivery: Annotated[int, typer.Argument(help="Its number, as `errand inbox list` prints it.")],
) -> None:
    """Deal with a delivery again, as if it came now."""

    async def work(store: Store) -> bool:
        async with store.begin() as tx:
            if not await inbox.revive(tx, delivery):
                return False
            await record(tx, now=utc_now(), actor=OPERATOR, action="inbox_retry", delivery=delivery)
            return True

    if not with_store(load_settings(), work):
        complain(f"no delivery {delivery} is dead: see `errand inbox list`")
        raise typer.Exit(EXIT_NOT_FOUND)
    say("it will be dealt with again")
