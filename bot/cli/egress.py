"""`errand egress`: what runs reached, and what they were denied."""

from typing import Annotated, Any

import typer

from bot.cli.database import with_store
from bot.cli.output import EXIT_NOT_FOUND, AsJson, complain, print_json, print_table, say
from bot.cli.task import SHORT, find_task
from bot.intake import utc_now
from bot.record import record
from bot.settings import load_settings
from bot.store import approvals, audit
from bot.store.engine import Store
from bot.store.rows import ApprovalRow, AuditRow

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


@app.command("opened")
def opened(as_json: AsJson = False) -> None:
    """Hosts that people opened to whole repositories, and until when."""

    async def work(store: Store) -> list[ApprovalRow]:
        async with store.read() as conn:
            return await approvals.of_repositories(conn, now=utc_now())

    rows = with_store(load_settings(), work)
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
    elif not rows:
        say("nothing was opened besides the policy")
    else:
        print_table(
            ["id", "repository", "host", "methods", "by", "until"],
            [
                (
                    row.id[:SHORT],
                    row.repo,
                    row.host,
                    " ".join(row.methods or ["all"]),
                    row.by,
                    _until(row),
                )
                for row in rows
            ],
        )


@app.command("close")
def close(
    approval: Annotated[str, typer.Argument(help="Its id, or enough of its beginning.")],
) -> None:
    """Close a host again that somebody opened to a repository. Runs that are under way keep it to their end."""

    async def work(store: Store) -> list[ApprovalRow]:
        async with store.begin() as tx:
            now = utc_now()
            rows = await approvals.of_repositories(tx, now=now)
            found = [row for row in rows if row.id.startswith(approval)]
            if len(found) == 1:
                await approvals.remove(tx, found[0].id)
                detail = {"host": found[0].host, "repo": found[0].repo}
                await record(tx, now=now, actor="cli", action="egress_closed", **detail)
            return found

    found = with_store(load_settings(), work)
    if len(found) != 1:
        number = "no opening" if not found else f"{len(found)} openings"
        complain(
            f"there is {number} with an id that begins with {approval!r}: `errand egress opened`"
        )
        raise typer.Exit(EXIT_NOT_FOUND)
    say(f"{found[0].host} is closed to {found[0].repo}")


def _until(row: ApprovalRow) -> str:
    return row.expires_at.date().isoformat() if row.expires_at else ""


def _document(row: AuditRow) -> dict[str, Any]:
    head = {"id": row.id, "at": row.at.isoformat(), "task": row.task, "verdict": row.decision}
    return {**row.detail, **head}


def _what(row: AuditRow) -> tuple[str, str]:
    """What was asked for as one would type it, and what decided."""
    found = row.detail
    where = f"{found.get('host')}:{found.get('port')}{found.get('path') or ''}"
    request = f"{found['method']} {where}" if found.get("method") else where
    return request, str(found.get("reason") or found.get("rule") or "")
