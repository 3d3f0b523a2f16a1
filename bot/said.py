"""What Errand says: outbox rows, in the transaction that gives the reason to say it."""

from datetime import datetime
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.line import LOOKED_AT, NEXT, Room, in_words, line, room_of
from bot.progress import STATE_WORDS, View, card, doing
from bot.states import TERMINAL, TaskState
from bot.store import followers, outbox, runs, tasks
from bot.store.rows import OutboxRow, TaskRow
from integrations.channel import Conversation, Final, Inbound, Mark, Notice, Opening, Question


def _row(
    *,
    task: str,
    conversation: Conversation,
    kind: str,
    seq: str,
    payload: dict[str, object],
    now: datetime,
    urgent: bool,
) -> OutboxRow:
    return OutboxRow(
        id=str(uuid4()),
        task=task,
        conversation=conversation,
        kind=kind,
        seq=seq,
        version=1,
        payload=payload,
        urgent=urgent,
        state="pending",
        tries=0,
        next_at=now,
        claim_until=None,
        first_claim_at=None,
        remote_id="",
        sent_version=0,
        error="",
        created_at=now,
    )


async def say(
    tx: AsyncConnection,
    conversation: Conversation,
    reply: Notice | Question | Final,
    *,
    seq: str,
    now: datetime,
    task: str = "",
) -> None:
    """Say something once: the same (task, kind, seq) is never said twice."""
    payload = reply.model_dump(mode="json")
    await outbox.put(
        tx,
        _row(
            task=task,
            conversation=conversation,
            kind=reply.kind,
            seq=seq,
            payload=payload,
            now=now,
            urgent=True,
        ),
    )


async def whereabouts(conn: AsyncConnection, task: TaskRow) -> list[Conversation]:
    """Every conversation in which the task is shown, its own first."""
    return [task.conversation, *await followers.of_task(conn, task.id)]


def _seq_in(conversation: Conversation, task: TaskRow, seq: str) -> str:
    """What tells a task's row in one conversation from those in the others."""
    return seq if conversation == task.conversation else f"{seq}@{conversation.key}"


async def say_everywhere(
    tx: AsyncConnection, task: TaskRow, reply: Notice | Question | Final, *, seq: str, now: datetime
) -> None:
    """Say something about a task, once in each conversation that shows it."""
    for conversation in await whereabouts(tx, task):
        here = _seq_in(conversation, task, seq)
        await say(tx, conversation, reply, seq=here, now=now, task=task.id)


async def settle(
    tx: AsyncConnection,
    task: TaskRow,
    *,
    seq: str,
    chosen: str,
    now: datetime,
    still_open: bool = False,
) -> None:
    """Show everywhere that a question about a task is answered: nothing can be chosen any more.

    `still_open`: only where it does not show that already.
    """
    for conversation in await whereabouts(tx, task):
        here = _seq_in(conversation, task, seq)
        await settle_one(tx, task.id, seq=here, chosen=chosen, now=now, still_open=still_open)


async def settle_one(
    tx: AsyncConnection,
    task: str,
    *,
    seq: str,
    chosen: str,
    now: datetime,
    still_open: bool = False,
) -> None:
    row = await outbox.get(tx, task, "question", seq)
    if row is None:
        return
    asked = Question.model_validate(row.payload)
    if still_open and asked.chosen:
        return
    answered = asked.model_copy(update={"chosen": chosen})
    payload = answered.model_dump(mode="json")
    await outbox.replace(
        tx, task=task, kind="question", seq=seq, payload=payload, now=now, urgent=True
    )


async def was_pressed_on(
    conn: AsyncConnection, task: TaskRow, inbound: Inbound, *, seq: str
) -> bool:
    """Is it this question of ours that a button was pressed on, and is it still open?"""
    row = await outbox.get(conn, task.id, "question", _seq_in(inbound.conversation, task, seq))
    if row is None or row.remote_id != inbound.message_id:
        return False
    return not Question.model_validate(row.payload).chosen


async def begin_elsewhere(
    tx: AsyncConnection, task: TaskRow, where: Conversation, *, now: datetime
) -> None:
    """Have a conversation of ours begun that follows the task; once for each place."""
    asked = f"Asked by {task.requester_name} in {task.conversation.where}."
    opening = Opening(title=task.title, text=asked, url=task.page, link=task.link)
    payload = opening.model_dump(mode="json")
    row = _row(
        task=task.id,
        conversation=where,
        kind="open",
        seq=where.key,
        payload=payload,
        now=now,
        urgent=False,
    )
    await outbox.put(tx, row)


async def mark(
    tx: AsyncConnection, task: TaskRow, what: Mark, *, present: bool, now: datetime
) -> None:
    """Add or remove a reaction on the message that asked."""
    payload: dict[str, object] = {"message_id": task.message_id, "mark": what, "present": present}
    seq = f"{task.round}:{what}:{'on' if present else 'off'}"
    await outbox.put(
        tx,
        _row(
            task=task.id,
            conversation=task.conversation,
            kind="mark",
            seq=seq,
            payload=payload,
            now=now,
            urgent=True,
        ),
    )


async def introduce(
    tx: AsyncConnection, task: TaskRow, conversation: Conversation, *, now: datetime
) -> bool:
    """Let a conversation follow a task, from its card on; False if it does already."""
    if not await followers.add(tx, task.id, conversation, now=now):
        return False
    await show_card(tx, task, now=now)
    last_word = await outbox.get(tx, task.id, "final", str(task.round))
    if last_word is not None:
        reply = Final.model_validate(last_word.payload)
        seq = _seq_in(conversation, task, str(task.round))
        await say(tx, conversation, reply, seq=seq, now=now, task=task.id)
    return True


async def show_card(
    tx: AsyncConnection, task: TaskRow, *, now: datetime, note: str = "", place: str | None = None
) -> None:
    """Bring the card of the task's round up to date: one message in each place, edited there.

    `place` in line, if the caller knows it; see `places_in_line`.
    """
    run = await runs.newest(tx, task)
    current = run if run is not None and run.round == task.round else None
    view = View.model_validate(current.view) if current else View()
    shown = card(task, view, now=now, started_at=current.started_at if current else None, note=note)
    if task.state is TaskState.QUEUED and not shown.doing:
        words = await _place_of(tx, task) if place is None else place
        shown = shown.model_copy(update={"doing": words})
    payload = shown.model_dump(mode="json")
    for conversation in await whereabouts(tx, task):
        await _show(tx, task, conversation, payload, now=now)


async def _place_of(conn: AsyncConnection, task: TaskRow) -> str:
    waiting = await tasks.standing_in_line(conn, limit=LOOKED_AT)
    in_order = line(waiting, await tasks.standing_at_work(conn), room_of(task))
    ids = [one.id for one in in_order]
    if task.id in ids:
        return in_words(ids.index(task.id))
    return in_words(None) if len(ids) == LOOKED_AT else ""


async def places_in_line(conn: AsyncConnection) -> dict[str, str]:
    """What is said of their places to those that are first in line, by task."""
    waiting = await tasks.queued(conn, limit=LOOKED_AT)
    at_work = await tasks.standing_at_work(conn)
    rooms = {task.id: room_of(task) for task in waiting}
    places: dict[Room, dict[str, int]] = {}
    for room in set(rooms.values()):
        in_order = line(waiting, at_work, room)
        places[room] = {task.id: ahead for ahead, task in enumerate(in_order)}
    return {id_: in_words(places[room][id_]) or NEXT for id_, room in rooms.items()}


async def _show(
    tx: AsyncConnection,
    task: TaskRow,
    conversation: Conversation,
    payload: dict[str, object],
    *,
    now: datetime,
) -> None:
    seq = _seq_in(conversation, task, str(task.round))
    before = await outbox.get(tx, task.id, "card", seq)
    if before is not None:
        # Above the last word if it is not there yet; else an edit, which the last word does not wait for.
        urgent = task.state in TERMINAL and not before.remote_id
        await outbox.replace(
            tx, task=task.id, kind="card", seq=seq, payload=payload, now=now, urgent=urgent
        )
        return
    row = _row(
        task=task.id,
        conversation=conversation,
        kind="card",
        seq=seq,
        payload=payload,
        now=now,
        urgent=False,
    )
    await outbox.put(tx, row)


async def quiet_since(
    conn: AsyncConnection, task: TaskRow, conversation: Conversation
) -> datetime | None:
    """Since when a conversation has had nothing new of the task's card; None if something is on its way."""
    row = await outbox.get(conn, task.id, "card", _seq_in(conversation, task, str(task.round)))
    return row.next_at if row is not None and row.state == "sent" else None


async def status_text(tx: AsyncConnection, task: TaskRow, *, now: datetime) -> str:
    """How far a task is, in a few words."""
    newest = await runs.newest(tx, task)
    run = newest if newest is not None and newest.round == task.round else None
    since = run.started_at if run and run.started_at else task.changed_at
    minutes = int((now - since).total_seconds() // 60)
    text = f"{task.title} · {task.repo} · {STATE_WORDS[task.state]}, {minutes} min"
    view = View.model_validate(run.view) if run else View()
    if task.state not in TERMINAL and (now_doing := doing(task, view)):
        text += f"\n{now_doing}"
    return f"{text}\n{task.pull_url}" if task.pull_url else text
