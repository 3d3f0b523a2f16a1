"""`errand egress`: what runs reached, and what they were denied."""

from typing import Annotated, Any

import typer

from bot.cli.database import with_store
from bot.cli.output import AsJson, print_json, print_table, say
from bot.cli.task import SHORT, find_task
from bot.settings import load_settings
from bot.store import audit
from bot.store.engine import Store
from bot.store.rows import AuditRow

app = typer.Typer(help="What runs reached.", no_args_is_help=True, add_completion=False)


@app.callback()
def _egress() -> None:
    """What runs reached, and what they were denied."""


@app.command("log")
def log(
    task: Annotated[str, typer.Argument(help="Of this task only.")] = "",
    denied: Annotated[bool, typer.Option("--denied", help="Only what was denied.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, of the newest.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Every decision of a gateway, from the audit record; the oldest first."""

    async def work(store: Store) -> list[AuditRow]:
        async with store.read() as conn:
            return await audit.newest(
                conn,
                action="egress",
                task=(await find_task(conn, task)).id if task else "",
                decision="deny" if denied else "",
                limit=limit,
            )

    rows = with_store(load_settings(), work)
    if as_json:
        print_json([_document(row) for row in rows])
    elif not rows:
        say("nothing was denied" if denied else "nothing was asked for")
    else:
        print_table(
            ["at", "task", "", "what", "rule or reason"],
            [
                (row.at.strftime("%m-%d %H:%M:%S"), row.task[-SHORT:], row.decision, *_what(row))
                for row in rows
            ],
        )


def _document(row: AuditRow) -> dict[str, Any]:
    head = {"id": row.id, "at": row.at.isoformat(), "task": row.task, "verdict": row.decision}
    return {**row.detail, **head}


def _what(row: AuditRow) -> tuple[str, str]:
    """What was asked for as one would type it, and what decided."""
    found = row.detail
    where = f"{found.get('host')}:{found.get('port')}{found.get('path') or ''}"
    request = f"{found['method']} {where}" if found.get("method") else where
    return request, str(found.get("reason") or found.get("rule") or "")
