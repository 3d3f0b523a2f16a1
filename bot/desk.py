"""What a message leads to: a new task, word to one that is there, or an answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import structlog
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import corrections, words
from bot.account import Dealt
from bot.answers import Answers, seq_of
from bot.approvals import Rulings
from bot.completion import bury_unreadable, complete_ones
from bot.in_force import InForce
from bot.intake import Signal, utc_now
from bot.manual import HELP
from bot.mirrors import Mirrors
from bot.pages import PageLinks
from bot.places import Places
from bot.progress import STATE_WORDS
from bot.questions import Replies
from bot.quiet import is_muted, mute
from bot.record import record
from bot.said import status_text
from bot.standing import note_back, note_removed
from bot.starts import Asked, Starts, question_key
from bot.states import IN_SANDBOX, LIVE, TERMINAL, TaskState
from bot.store import commands, cursors, inbox, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreUnavailableError
from bot.store.rows import CommandRow, InboxRow, TaskRow
from bot.tasks import stop_task
from integrations.channel import Inbound
from integrations.tracker import Tracker
from policies.decide import is_trigger
from policies.model import Policy
from runner.steps import context_prompt

log = structlog.get_logger()

MAX_TRIES = 5
FAILED = "I could not deal with this request. The operator finds the reason in the log."
SWEEP_SECONDS = 5.0
STOPPABLE = LIVE - {TaskState.PUBLISHING, TaskState.STOPPING, TaskState.KEEPING}
STEERABLE = frozenset({TaskState.QUEUED, TaskState.PUBLISHING, *IN_SANDBOX}) - {TaskState.STOPPING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Turns stored deliveries into tasks and commands. Each delivery is one transaction, of whichever `serve` is first."""

    store: Store
    in_force: InForce
    pages: PageLinks
    arrived: Signal
    queued: Signal
    spoken: Signal
    commanded: Signal
    trackers: Mapping[str, Tracker] = field(default_factory=dict)
    now: Callable[[], datetime] = utc_now
    dealt: Dealt = field(default_factory=Dealt)

    @property
    def _answers(self) -> Answers:
        return Answers(policy=self.policy, now=self.now())

    @property
    def _mirrors(self) -> Mirrors:
        return Mirrors(policy=self.policy, trackers=self.trackers)

    @property
    def _starts(self) -> Starts:
        return Starts(answers=self._answers, mirrors=self._mirrors, pages=self.pages)

    @property
    def policy(self) -> Policy:
        return self.in_force.policy

    async def run(self) -> None:
        """Work through the inbox, oldest first, until cancelled."""
        while True:
            try:
                while await self.work_off():
                    pass
            except StoreError:
                log.exception("inbox_unreachable")
            await self.arrived.wait(SWEEP_SECONDS)

    async def work_off(self, limit: int = 100) -> int:
        """Work off what is new; the number of deliveries that were looked at."""
        try:
            async with self.store.read() as conn:
                rows = await complete_ones(conn, limit=limit)
        except ValidationError:
            return await bury_unreadable(self.store, raw=False)
        for row in rows:
            await self._take(row)
        if rows:
            for signal in (self.spoken, self.queued, self.commanded):
                signal.set()
        return len(rows)

    async def _take(self, row: InboxRow) -> None:
        try:
            async with self.store.begin() as tx:
                if not await inbox.is_new(tx, row.id):
                    return  # another `serve` was faster
                led_somewhere = await self.handle(tx, row.inbound)
                outcome: Literal["done", "ignored"] = "done" if led_somewhere else "ignored"
                await inbox.finish(tx, row.id, state=outcome)
                task = await tasks.for_conversation(tx, row.inbound.conversation)
            self.dealt.with_delivery(row, task, outcome=outcome, now=self.now())
        except StoreUnavailableError:
            raise
        except Exception as error:  # whatever it was: one delivery holds up no other
            log.exception("delivery_failed", inbox=row.id)
            await self._failed(row, error)

    async def _failed(self, row: InboxRow, error: Exception) -> None:
        try:
            died = await self._note_failure(row, error, said=True)
        except StoreUnavailableError:
            raise
        except Exception:  # whatever it was: dead it is all the same
            log.exception("death_not_said", inbox=row.id)
            died = await self._note_failure(row, error, said=False)
        if died:
            self.dealt.with_delivery(row, None, outcome="dead", now=self.now())

    async def _note_failure(self, row: InboxRow, error: Exception, *, said: bool) -> bool:
        """Whether it is given up now; `said` to who asked."""
        async with self.store.begin() as tx:
            if await inbox.fail(tx, row.id, error=repr(error)) < MAX_TRIES:
                return False
            await inbox.finish(tx, row.id, state="dead")
            if said:
                # Not what its answers are known by: it may be dealt with again, and answered, or die again.
                died = f"dead:{self.now().isoformat()}"
                await self._answers.tell(tx, row.inbound, FAILED, error=True, what=died)
        return True

    async def handle(self, tx: AsyncConnection, inbound: Inbound) -> bool:
        """Do what one message asks for; False if it is none of our business."""
        task = await tasks.for_conversation(tx, inbound.conversation)
        request = words.read(inbound.text, repos=tuple(self.policy.repos), title=inbound.title)
        if inbound.happening != "gone":
            await note_back(tx, inbound.conversation)
        match inbound.happening:
            case "withdrawn":
                return await self._withdrawn(tx, inbound, task)
            case "gone":
                return await self._gone(tx, inbound)
            case "triggered":
                return await self._triggered(tx, inbound, task, request)
            case "rated":
                return await self._rated(tx, inbound, task)
            case "corrected" if task is not None:
                return await self._corrected(tx, inbound, task, request)
            case "said" | "corrected":
                return await self._spoken(tx, inbound, task, request)

    async def _spoken(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow | None, request: words.Request
    ) -> bool:
        if request.word == "settings" and (inbound.addressed or task is not None):
            await Places(answers=self._answers).set(tx, inbound, request)
            return True
        if task is None:
            return await self._without_task(tx, inbound, request)
        if await Replies(answers=self._answers).take(tx, inbound, task, request):
            return True
        ruling = None if inbound.title else words.ruling_in(inbound.text)
        if ruling is not None:
            await Rulings(answers=self._answers).take(tx, inbound, task, ruling)
            return True
        return await self._about(tx, inbound, task, request)

    async def _about(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, request: words.Request
    ) -> bool:
        if not inbound.addressed and request.word != "unmute" and await is_muted(tx, inbound):
            return False
        match request.word:
            case "mute" | "unmute":
                await mute(tx, self._answers, inbound, task, muted=request.word == "mute")
            case "help":
                await self._answers.tell(tx, inbound, HELP, task=task.id)
            case "status":
                text = await status_text(tx, task, now=self.now())
                await self._answers.tell(tx, inbound, text, task=task.id)
            case "stop":
                return await self._stop(tx, inbound, task)
            case "ticket":
                await self._make_ticket(tx, inbound, task)
            case "thanks":
                return False
            case _:
                return await self._go_on(tx, inbound, task, request)
        return True

    async def _withdrawn(self, tx: AsyncConnection, inbound: Inbound, task: TaskRow | None) -> bool:
        """Who may take a ticket back is decided where the ticket lives."""
        if task is None or task.state not in STOPPABLE:
            return False
        command = seq_of(inbound, "stop")
        await stop_task(tx, task, by=inbound.author, command_id=command, now=self.now())
        return True

    async def _gone(self, tx: AsyncConnection, inbound: Inbound) -> bool:
        """Nobody there can see or stop it any more; what is being published is done."""
        here = inbound.conversation
        asked = [
            task
            for task in await tasks.in_states(tx, STOPPABLE)
            if (task.conversation.channel, task.conversation.team) == (here.channel, here.team)
        ]
        for task in asked:
            command = f"{seq_of(inbound, 'stop')}:{task.id}"
            await stop_task(tx, task, by=inbound.author, command_id=command, now=self.now())
        await note_removed(tx, here, now=self.now())
        return True

    async def _triggered(
        self,
        tx: AsyncConnection,
        inbound: Inbound,
        task: TaskRow | None,
        request: words.Request,
    ) -> bool:
        """A label or state was set: a request where the policy says so, and nothing is under way already."""
        live = task is not None and task.state not in TERMINAL
        if live or not is_trigger(self.policy, inbound.topics):
            return False
        await self._starts.start(tx, inbound, request, repo=request.repo)
        return True

    async def _go_on(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, request: words.Request
    ) -> bool:
        """What was said is about the work itself: a new round of it, or word to the one that runs."""
        if inbound.pressed and (request.word != "retry" or task.state not in TERMINAL):
            return False  # the question is answered, or it runs again already
        if not request.prompt:
            if inbound.addressed:
                await self._answers.tell(tx, inbound, HELP, task=task.id)
            return inbound.addressed
        if task.state in TERMINAL:
            await self._starts.follow_up(tx, inbound, task, request)
        elif request.word == "retry":
            text = f"This errand is {STATE_WORDS[task.state]}; `retry` is for when it has ended."
            await self._answers.tell(tx, inbound, text, task=task.id)
        else:
            await self._steer(tx, inbound, task, request.prompt)
        return True

    async def _without_task(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request
    ) -> bool:
        asked = await _open_question(tx, inbound)
        if asked is not None and await self._answered(tx, inbound, request, asked):
            return True
        if not inbound.addressed or inbound.pressed:
            return False
        if request.word is not None or not request.prompt:
            prefix = "" if request.word == "help" or not request.prompt else "Nothing runs here.\n"
            await self._answers.tell(tx, inbound, prefix + HELP)
            return True
        await self._starts.start(tx, inbound, request, repo=request.repo)
        return True

    async def _answered(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request, asked: Asked
    ) -> bool:
        """Take a message as the answer to our question to its author; False if it is none."""
        first = asked.inbound
        if inbound.happening == "corrected":
            if inbound.message_id != first.message_id:
                return False
            first, inbound = first.model_copy(update={"text": inbound.text}), first
        elif request.word == "stop":
            await cursors.put(tx, question_key(inbound), "")
            await self._answers.settle(tx, asked.seq, "nothing")
            await self._answers.tell(tx, inbound, "All right, nothing is begun.")
            return True
        elif request.word is not None or not (request.repo or inbound.addressed):
            return False
        await cursors.put(tx, question_key(inbound), "")
        await self._answers.settle(tx, asked.seq, request.repo or "another answer")
        again = words.read(first.text, repos=tuple(self.policy.repos), title=first.title)
        repo = request.repo or again.repo
        await self._starts.start(tx, first, again, repo=repo, answer=inbound)
        return True

    async def _corrected(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, request: words.Request
    ) -> bool:
        """An edit of the request, or of word to the agent: it is told, or reads it so in the first place."""
        head = await corrections.is_about(tx, inbound, task)
        if not head or request.word is not None or not request.prompt:
            return False
        if not await self._answers.granted(tx, inbound, task, action="steer"):
            return True
        if await corrections.rewrite(tx, task, inbound, request):
            await self._answers.tell(tx, inbound, "Noted: I begin with your edit.", task=task.id)
            return True
        await self._steer(tx, inbound, task, f"{head}\n\n{request.prompt}")
        return True

    async def _rated(self, tx: AsyncConnection, inbound: Inbound, task: TaskRow | None) -> bool:
        """How somebody liked the last word: on record, and nothing is said about it."""
        if task is None:
            return False
        await record(
            tx,
            now=self.now(),
            actor=inbound.author,
            action="feedback",
            task=task.id,
            decision="good" if inbound.text == "good" else "bad",
            round=task.round,
        )
        return True

    async def _steer(self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, text: str) -> None:
        if not await self._answers.granted(tx, inbound, task, action="steer"):
            return
        if task.state not in STEERABLE:
            refused = f"This errand is {STATE_WORDS[task.state]}; say that again when it has ended."
            await self._answers.tell(tx, inbound, refused, task=task.id)
            return
        around = context_prompt(inbound.context)
        whole = f"{text}\n\n{around}" if around else text
        await self._command(tx, inbound, task, kind="steer", text=whole)
        when = "the agent gets it with its next turn"
        if task.state is TaskState.PUBLISHING:
            when = "I go on with it once this is published"
        await self._answers.tell(tx, inbound, f"Noted; {when}.", task=task.id)

    async def _stop(self, tx: AsyncConnection, inbound: Inbound, task: TaskRow) -> bool:
        """A button or reaction that stops nothing (any more) is no reason to say so."""
        if task.state in TERMINAL:
            if not inbound.pressed:
                await self._answers.tell(tx, inbound, "Nothing is running here.", task=task.id)
            return not inbound.pressed
        if task.state is TaskState.PUBLISHING:
            text = "Too late to stop: the work is done and is being published. Close the pull request if you don't want it."
            await self._answers.tell(tx, inbound, text, task=task.id)
            return True
        if not await self._answers.granted(tx, inbound, task, action="stop"):
            return True
        if task.state is TaskState.KEEPING:
            text = "It is stopped; what it had done so far is being put on its branch."
            await self._answers.tell(tx, inbound, text, task=task.id)
            return True
        command = seq_of(inbound, "stop")
        if await stop_task(tx, task, by=inbound.author, command_id=command, now=self.now()):
            return True
        if not inbound.pressed:
            await self._answers.tell(tx, inbound, "It is being stopped already.", task=task.id)
        return not inbound.pressed

    async def _make_ticket(self, tx: AsyncConnection, inbound: Inbound, task: TaskRow) -> None:
        if await self._answers.granted(tx, inbound, task, action="steer"):
            text = await self._mirrors.open_ticket(tx, task, inbound.text, now=self.now())
            await self._answers.tell(tx, inbound, text, task=task.id)

    async def _command(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, *, kind: str, text: str
    ) -> None:
        now = self.now()
        row = CommandRow(
            id=seq_of(inbound, kind),
            task=task.id,
            fence=task.fence,
            kind=kind,
            text=text,
            author=inbound.author,
            state="pending",
            created_at=now,
            sent_at=None,
        )
        if await commands.insert(tx, row):
            await record(
                tx,
                now=now,
                actor=inbound.author,
                action=kind,
                task=task.id,
                decision="granted",
                policy_hash=self.policy.hash,
            )


async def _open_question(tx: AsyncConnection, inbound: Inbound) -> Asked | None:
    stored = await cursors.get(tx, question_key(inbound))
    return Asked.model_validate_json(stored) if stored else None
