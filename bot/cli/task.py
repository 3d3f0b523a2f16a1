"""`errand task`: what was asked for, how it went, and a hand on it."""

import gzip
import json
import sys
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from bot.cli.database import with_store
from bot.cli.narrate import narrated
from bot.cli.output import (
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    AsJson,
    complain,
    heading,
    print_facts,
    print_json,
    print_table,
    say,
)
from bot.cli.watch import Seen, Watch
from bot.handin import HandIns
from bot.intake import utc_now
from bot.progress import View
from bot.record import OPERATOR
from bot.settings import Settings, load_settings
from bot.states import TERMINAL, TaskState
from bot.store import audit, events, runs, tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from bot.store.tasks import FollowUp
from bot.tasks import begin_round, stop_task
from runner.protocol import EventRecord, RunKey
from runner.tracing import TraceOfTask

app = typer.Typer(
    help="Tasks: list, show, watch, logs, stop, retry.", no_args_is_help=True, add_completion=False
)
TaskId = Annotated[str, typer.Argument(help="The task's id, or enough of its beginning or end.")]
SHORT = 8
"""So much of the end of an id tells a task from others."""


async def find_task(conn: AsyncConnection, wanted: str) -> TaskRow:
    """By its id, or enough of it. Ends the command if that is nobody or several."""
    exact = await tasks.get(conn, wanted.lower())
    if exact is not None:
        return exact
    found = [
        t
        for t in await tasks.listing(conn, limit=1000)
        if t.id.startswith(wanted.lower()) or t.id.endswith(wanted.lower())
    ]
    if len(found) != 1:
        complain(
            f"{'no' if not found else 'more than one'} task {wanted!r}: see `errand task list`"
        )
        raise typer.Exit(EXIT_NOT_FOUND)
    return found[0]


@app.command("list")
def list_(
    as_json: AsJson = False,
    live: Annotated[bool, typer.Option(help="Only what has not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 30,
) -> None:
    """The newest tasks."""

    async def work(store: Store) -> list[TaskRow]:
        async with store.read() as conn:
            states = frozenset(TaskState) - TERMINAL if live else None
            return await tasks.listing(conn, states=states, limit=limit)

    rows = with_store(load_settings(), work)
    if as_json:
        print_json([row.model_dump(mode="json", exclude={"grant"}) for row in rows])
        return
    if not rows:
        say("no tasks yet" if not live else "no task is under way")
        return
    print_table(
        ["task", "state", "repo", "asked by", "when (UTC)", "title"],
        [
            (
                t.id[-SHORT:],
                t.state,
                t.repo,
                t.requester_name,
                f"{t.created_at:%m-%d %H:%M}",
                t.title,
            )
            for t in rows
        ],
    )


@app.command()
def show(task: TaskId, as_json: AsJson = False) -> None:
    """The whole record of a task: who, what, every run, every decision."""

    async def work(store: Store) -> dict[str, Any]:
        async with store.read() as conn:
            row = await find_task(conn, task)
            return {
                "task": row.model_dump(mode="json"),
                "trace": f"{TraceOfTask.of(row.id).trace_id:032x}",
                "runs": [r.model_dump(mode="json") for r in await runs.of_task(conn, row.id)],
                "audit": [a.model_dump(mode="json") for a in await audit.of_task(conn, row.id)],
            }

    found = with_store(load_settings(), work)
    if as_json:
        print_json(found)
        return
    _print_task(found)


def _print_task(found: dict[str, Any]) -> None:
    shown = ("id", "state", "title", "requester", "requester_name", "repo", "repo_reason", "branch",
             "pull_url", "reason", "policy_hash", "round", "fence", "created_at", "ended_at")  # fmt: skip
    print_facts({name: found["task"][name] for name in shown} | {"trace": found["trace"]})
    for run in found["runs"]:
        heading(f"run {run['fence']}")
        names = ("host", "agent", "image", "image_digest", "base_commit", "queued_at", "started_at",
                 "ended_at", "outcome", "reason")  # fmt: skip
        facts: dict[str, object] = {name: run[name] for name in names}
        print_facts({**facts, **_used(View.model_validate(run["view"]))})
    heading("decisions")
    print_table(
        ["at", "who", "what", "decision", "detail"],
        [
            (a["at"], a["actor"], a["action"], a["decision"], json.dumps(a["detail"]))
            for a in found["audit"]
        ],
    )


def _used(view: View) -> dict[str, object]:
    by = "" if view.metered or view.cost_usd is None else " (the agent says)"
    cost = "unknown" if view.cost_usd is None else f"${view.cost_usd:.2f}{by}"
    if view.metered and view.cost_usd is None:
        cost = f"unknown (counts as ${view.counted_usd or 0:.2f})"
    if view.input_tokens is None and view.output_tokens is None:
        return {"cost": cost, "tokens": "unknown"}
    counts = (view.input_tokens or 0, view.cached_tokens or 0, view.output_tokens or 0)
    return {"cost": cost, "tokens": "{:,} in, {:,} from a cache, {:,} out".format(*counts)}


@app.command()
def logs(
    task: TaskId,
    as_json: AsJson = False,
    transcript: Annotated[
        bool, typer.Option(help="The raw transcript of the newest ended run.")
    ] = False,
) -> None:
    """What happened in a task's runs."""
    settings = load_settings()

    async def work(store: Store) -> tuple[TaskRow, list[EventRecord]]:
        async with store.read() as conn:
            row = await find_task(conn, task)
            return row, [stored.record for stored in await events.of_task(conn, row.id)]

    row, records = with_store(settings, work)
    if transcript:
        _print_transcript(settings, row)
    elif as_json:
        print_json([record.model_dump(mode="json") for record in records])
    else:
        for line in narrated(records):
            say(line)


def _print_transcript(settings: Settings, row: TaskRow) -> None:
    kept = HandIns(settings.data_dir)
    paths = (kept.transcript(RunKey(task=row.id, fence=n)) for n in range(max(row.fence, 1), 0, -1))
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        complain(f"no transcript of {row.id} is here: a worker hands it in when a run has ended")
        raise typer.Exit(EXIT_NOT_FOUND)
    sys.stdout.write(gzip.decompress(path.read_bytes()).decode(errors="replace"))


@app.command()
def watch(task: TaskId, as_json: AsJson = False) -> None:
    """Follow a task until it has ended; with --json, an event a line."""

    async def work(store: Store) -> Seen:
        async with store.read() as conn:
            row = await find_task(conn, task)
        watching = Watch(store, row.id)
        return await (watching.lines() if as_json else watching.live())

    if with_store(load_settings(), work).task.state is not TaskState.SUCCEEDED:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def stop(task: TaskId) -> None:
    """Stop a task, as its requester could by saying `stop`; a second time without keeping its work."""

    async def work(store: Store) -> bool:
        async with store.begin() as tx:
            row = await find_task(tx, task)
            return await stop_task(tx, row, by=OPERATOR, command_id=f"cli:{ULID()}", now=utc_now())

    if not with_store(load_settings(), work):
        complain("it has ended already, or is being published or kept")
        raise typer.Exit(EXIT_FAILED)
    say("stopping")


@app.command()
def retry(task: TaskId) -> None:
    """Run an ended task again, with its last instruction and grant, on the same branch."""

    async def work(store: Store) -> bool:
        async with store.begin() as tx:
            row = await find_task(tx, task)
            if row.state not in TERMINAL:
                return False
            same = FollowUp(
                message_id=row.message_id,
                prompt=row.prompt,
                grant=row.grant,
                policy_hash=row.policy_hash,
            )
            why = "asked for on the command line"
            await begin_round(tx, row, same, by=OPERATOR, why=why, now=utc_now(), action="retry")
            return True

    if not with_store(load_settings(), work):
        complain("it has not ended yet")
        raise typer.Exit(EXIT_FAILED)
    say("queued again")
