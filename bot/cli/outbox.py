"""`errand outbox`: what is to be said, and what could not be."""

from typing import Annotated

import typer

from bot.cli.database import with_store
from bot.cli.output import EXIT_NOT_FOUND, AsJson, complain, print_json, print_table, say
from bot.intake import utc_now
from bot.record import OPERATOR, record
from bot.settings import load_settings
from bot.store import outbox
from bot.store.engine import Store
from bot.store.rows import OutboxRow

app = typer.Typer(help="Messages on their way.", no_args_is_help=True, add_completion=False)
SHORT = 8


@app.command("list")
def list_(
    as_json: AsJson = False,
    dead: Annotated[bool, typer.Option("--dead", help="What failed for good instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """What waits to be sent, and why."""

    async def work(store: Store) -> list[OutboxRow]:
        async with store.read() as conn:
            return await outbox.waiting(conn, dead=dead, limit=limit)

    rows = with_store(load_settings(), work)
    if as_json:
        shown = [row.model_dump(mode="json", exclude={"payload"}) for row in rows]
        print_json(shown)
    elif not rows:
        say("no message is dead" if dead else "no message waits")
    else:
        print_table(
            ["message", "task", "to", "kind", "tries", "since (UTC)", "next", "error"],
            [
                (
                    row.id,
                    row.task[-SHORT:],
                    row.conversation.where,
                    row.kind,
                    row.tries,
                    f"{row.created_at:%m-%d %H:%M}",
                    "never" if dead else f"{row.next_at:%m-%d %H:%M:%S}",
                    row.error,
                )
                for row in rows
            ],
        )


@app.command("retry")
def retry(
    message: Annotated[str, typer.Argument(help="Its id, as `errand outbox list` prints it.")],
) -> None:
    """Try a message again, at once: dead or waiting. What may be there already is looked for first."""

    async def work(store: Store) -> bool:
        async with store.begin() as tx:
            now = utc_now()
            row = await outbox.by_id(tx, message)
            if row is None or not await outbox.retry(tx, row.id, now=now):
                return False
            await record(
                tx, now=now, actor=OPERATOR, action="outbox_retry", task=row.task, message=row.id
            )
            return True

    if not with_store(load_settings(), work):
        complain(f"no message {message!r} waits or is dead: see `errand outbox list`, also --dead")
        raise typer.Exit(EXIT_NOT_FOUND)
    say("it will be tried again")
