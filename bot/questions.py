"""Questions of an agent: put to people once, answered once, and settled when nobody waits for the answer any more."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import words
from bot.answers import Answers, seq_of
from bot.progress import View
from bot.quiet import is_muted
from bot.record import record
from bot.said import say, say_everywhere, settle, was_pressed_on, whereabouts
from bot.states import TaskState
from bot.store import commands, runs, tasks
from bot.store.rows import CommandRow, TaskRow
from integrations.channel import Inbound, Notice, Option
from integrations.channel import Question as Put
from integrations.wording import one_line
from runner.protocol import Answer, Question, QuestionClosed
from runner.steps import context_prompt

UNANSWERED: Final = "not answered"
LIKELY: Final = 100
"""So many letters of an answer are repeated in the conversation."""
_EXPLICIT = re.compile(r"answer:\s*(.+)", re.IGNORECASE | re.DOTALL)


async def put(
    tx: AsyncConnection, task: TaskRow, question: Question, *, fence: int, now: datetime
) -> None:
    """Ask in the conversations, and let the task wait; nobody is asked for one that is being stopped."""
    if not await tasks.move(
        tx, task.id, to=TaskState.WAITING, old=[TaskState.RUNNING], fence=fence, changed_at=now
    ):
        return
    options = tuple(Option(label=label, words=_words_for(label)) for label in question.options)
    asked = Put(text=question.text, options=options, calls=task.requester)
    await say_everywhere(tx, task, asked, seq=_seq(fence, question.id), now=now)


async def close(
    tx: AsyncConnection, task: TaskRow, closed: QuestionClosed, *, fence: int, now: datetime
) -> None:
    """The run says that it waits no more."""
    chosen = "answered" if closed.answered else UNANSWERED
    await settle(tx, task, seq=_seq(fence, closed.id), chosen=chosen, now=now, still_open=True)
    await tasks.move(
        tx, task.id, to=TaskState.RUNNING, old=[TaskState.WAITING], fence=fence, changed_at=now
    )


async def drop(tx: AsyncConnection, task: TaskRow, *, now: datetime) -> None:
    """The run is over, in whatever way: what it asked needs no answer."""
    asked = await _asked(tx, task)
    if asked is not None:
        seq = _seq(task.fence, asked.id)
        await settle(tx, task, seq=seq, chosen=UNANSWERED, now=now, still_open=True)


def as_word(row: CommandRow) -> CommandRow:
    """A command as what it says to an agent that did not wait for it."""
    if row.kind != "answer":
        return row
    return row.model_copy(update={"text": Answer.model_validate_json(row.text).as_word()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """What people say to a question of an agent."""

    answers: Answers

    async def take(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, request: words.Request
    ) -> bool:
        """Pass it on as the answer, if it is one and they may steer; False if it is not."""
        question = await self._open(tx, inbound, task)
        said = "" if question is None else _said(inbound, request, question)
        if question is None or not said:
            return False
        if not inbound.addressed and await is_muted(tx, inbound):
            return False
        if not await self.answers.granted(tx, inbound, task, action="steer"):
            return True
        await self._pass_on(tx, inbound, task, question, said)
        await self._tell(tx, inbound, task, question, said)
        return True

    async def _open(self, tx: AsyncConnection, inbound: Inbound, task: TaskRow) -> Question | None:
        """The question that waits, and was not answered yet; to a button, only if it is that one's."""
        asked = await _asked(tx, task) if task.state is TaskState.WAITING else None
        if asked is None:
            return None
        given = [c for c in await commands.open_for(tx, task.id) if c.kind == "answer"]
        if any(Answer.model_validate_json(c.text).question.id == asked.id for c in given):
            return None
        seq = _seq(task.fence, asked.id)
        if inbound.pressed and not await was_pressed_on(tx, task, inbound, seq=seq):
            return None
        return asked

    async def _pass_on(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, question: Question, said: str
    ) -> None:
        around = "" if inbound.pressed else context_prompt(inbound.context)
        whole = f"{said}\n\n{around}" if around else said
        row = CommandRow(
            id=seq_of(inbound, "answer"),
            task=task.id,
            fence=task.fence,
            kind="answer",
            text=Answer(question=question, text=whole).model_dump_json(),
            author=inbound.author,
            state="pending",
            created_at=self.answers.now,
            sent_at=None,
        )
        if await commands.insert(tx, row):
            await record(
                tx,
                now=self.answers.now,
                actor=inbound.author,
                action="answer",
                task=task.id,
                decision="granted",
                policy_hash=self.answers.policy.hash,
                question=question.id,
            )

    async def _tell(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, question: Question, said: str
    ) -> None:
        """The question shows its answer; where that can't be seen, it is said."""
        now, seq = self.answers.now, _seq(task.fence, question.id)
        line = one_line(said)
        short = line if len(line) <= LIKELY else line[: LIKELY - 1] + "…"
        answered = f"{inbound.author_name or inbound.author} answered: {short}"
        await settle(tx, task, seq=seq, chosen=answered, now=now)
        if not inbound.pressed:
            text = "Noted; the agent goes on with that."
            await self.answers.tell(tx, inbound, text, task=task.id)
        for other in await whereabouts(tx, task):
            if other != inbound.conversation:
                there = f"answered:{seq}@{other.key}"
                await say(tx, other, Notice(text=answered), seq=there, now=now, task=task.id)


async def _asked(conn: AsyncConnection, task: TaskRow) -> Question | None:
    run = await runs.get(conn, task.id, task.fence)
    return View.model_validate(run.view).question if run is not None else None


def _said(inbound: Inbound, request: words.Request, question: Question) -> str:
    """The answer that a message is; empty if it means something else to us (`stop`)."""
    text = inbound.text.strip()
    explicit = _EXPLICIT.fullmatch(text)
    if explicit is not None:
        return explicit[1].strip()
    option = next((o for o in question.options if o.casefold() == text.casefold()), "")
    if request.word == "thanks" or inbound.pressed:
        return option
    means_else = request.word is not None or words.ruling_in(text) is not None
    return "" if means_else else option or text


def _words_for(label: str) -> str:
    """What choosing an option says: its label, unless that alone means something to us."""
    plain = words.read(label, repos=()).word in {None, "thanks"}
    return label if plain and words.ruling_in(label) is None else f"answer: {label}"


def _seq(fence: int, question: str) -> str:
    return f"agent:{fence}:{question}"
