"""What a message leads to: a new task, word to one that is there, or an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import words
from bot.intake import Signal, utc_now
from bot.progress import STATE_WORDS
from bot.record import record
from bot.said import mark, say, show_card, status_text
from bot.states import IN_SANDBOX, TERMINAL, IllegalMoveError, TaskState
from bot.store import commands, cursors, inbox, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreRefusedError
from bot.store.rows import CommandRow, InboxRow, TaskRow
from bot.store.tasks import FollowUp
from bot.tasks import begin_round, new_task, stop_task
from integrations.channel import Inbound, Mark, Notice, Option, Question
from policies.decide import decide
from policies.model import Ask, Choice, Grant, Policy, Refusal

log = structlog.get_logger()

MAX_TRIES = 5
SWEEP_SECONDS = 5.0
STEERABLE = frozenset({TaskState.QUEUED, TaskState.PUBLISHING, *IN_SANDBOX}) - {TaskState.STOPPING}
HELP = (
    "Mention me with what should be done, and where if it isn't clear: `owner/name fix the flaky login test`. "
    "I answer in this thread and end with a pull request.\n"
    "Reply here to steer, or to go on after the end. `stop` ends the work, `status` tells how far it is, "
    "`retry` runs it again. Options: `repo=owner/name`, `agent=name`."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Turns stored deliveries into tasks and commands. Each delivery is one transaction."""

    store: Store
    policy: Policy
    arrived: Signal
    queued: Signal
    spoken: Signal
    commanded: Signal
    now: Callable[[], datetime] = utc_now

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
                rows = await inbox.new(conn, limit=limit)
        except ValidationError:
            return await self._bury_unreadable(limit)
        for row in rows:
            await self._take(row)
        if rows:
            for signal in (self.spoken, self.queued, self.commanded):
                signal.set()
        return len(rows)

    async def _bury_unreadable(self, limit: int) -> int:
        """Rows of another version, or damaged: nobody can be told, and nobody waits for them."""
        async with self.store.begin() as tx:
            found = await inbox.unreadable(tx, limit=limit)
            for row_id in found:
                await inbox.finish(tx, row_id, state="dead")
        log.error("deliveries_unreadable", inbox=found)
        return len(found)

    async def _take(self, row: InboxRow) -> None:
        try:
            async with self.store.begin() as tx:
                led_somewhere = await self.handle(tx, row.inbound)
                await inbox.finish(tx, row.id, state="done" if led_somewhere else "ignored")
        except (StoreRefusedError, IllegalMoveError, ValueError, LookupError) as error:
            log.exception("delivery_failed", inbox=row.id)
            await self._failed(row, error)

    async def _failed(self, row: InboxRow, error: Exception) -> None:
        async with self.store.begin() as tx:
            tries = await inbox.fail(tx, row.id, error=repr(error))
            if tries < MAX_TRIES:
                return
            await inbox.finish(tx, row.id, state="dead")
        text = "I could not deal with this request. The operator finds the reason in the log."
        try:
            async with self.store.begin() as tx:
                await self._tell(tx, row.inbound, text, error=True)
        except StoreRefusedError:
            log.exception("death_not_said", inbox=row.id)

    async def handle(self, tx: AsyncConnection, inbound: Inbound) -> bool:
        """Do what one message asks for; False if it is none of our business."""
        task = await tasks.for_conversation(tx, inbound.conversation)
        request = words.read(inbound.text, repos=tuple(self.policy.repos))
        if task is None:
            return await self._without_task(tx, inbound, request)
        match request.word:
            case "help":
                await self._tell(tx, inbound, HELP, task=task.id)
            case "status":
                await self._tell(
                    tx, inbound, await status_text(tx, task, now=self.now()), task=task.id
                )
            case "stop":
                await self._stop(tx, inbound, task)
            case "thanks":
                return False
            case _:
                return await self._go_on(tx, inbound, task, request)
        return True

    async def _go_on(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, request: words.Request
    ) -> bool:
        """What was said is about the work itself: a new round of it, or word to the one that runs."""
        if not request.prompt:
            if inbound.addressed:
                await self._tell(tx, inbound, HELP, task=task.id)
            return inbound.addressed
        if task.state in TERMINAL:
            await self._follow_up(tx, inbound, task, request)
        elif request.word == "retry":
            text = f"This errand is {STATE_WORDS[task.state]}; `retry` is for when it has ended."
            await self._tell(tx, inbound, text, task=task.id)
        else:
            await self._steer(tx, inbound, task, request)
        return True

    async def _without_task(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request
    ) -> bool:
        asked = await _open_question(tx, inbound)
        if asked is not None and await self._answered(tx, inbound, request, asked):
            return True
        if not inbound.addressed:
            return False
        if request.word is not None or not request.prompt:
            prefix = "" if request.word == "help" or not request.prompt else "Nothing runs here.\n"
            await self._tell(tx, inbound, prefix + HELP)
            return True
        await self._start(tx, inbound, request, repo=request.repo)
        return True

    async def _answered(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request, asked: Inbound
    ) -> bool:
        """Take a message as the answer to our question to its author; False if it is none."""
        if request.word == "stop":
            await cursors.put(tx, _question_key(inbound), "")
            await self._tell(tx, inbound, "All right, nothing is begun.")
            return True
        if request.word is not None or not (request.repo or inbound.addressed):
            return False
        await cursors.put(tx, _question_key(inbound), "")
        first = words.read(asked.text, repos=tuple(self.policy.repos))
        await self._start(tx, asked, first, repo=request.repo, answer=inbound)
        return True

    async def _start(
        self,
        tx: AsyncConnection,
        inbound: Inbound,
        request: words.Request,
        *,
        repo: str | None,
        answer: Inbound | None = None,
    ) -> None:
        """Begin what `inbound` asks for, if the policy grants it; `answer` is what was said to our question."""
        ask = Ask(
            person=inbound.author,
            where=inbound.conversation.where,
            action="start",
            repo=repo,
            agent=request.agent,
        )
        match decide(self.policy, ask):
            case Refusal() as refusal:
                await self._refuse(tx, inbound, refusal, action="start")
            case Choice(text=text, options=options):
                await cursors.put(tx, _question_key(inbound), inbound.model_dump_json())
                question = Question(
                    text=text, options=tuple(Option(label=o, words=o) for o in options)
                )
                seq = _seq(answer or inbound, "question")
                await say(tx, inbound.conversation, question, seq=seq, now=self.now())
            case Grant() as grant:
                await self._create(tx, inbound, request, grant)

    async def _create(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request, grant: Grant
    ) -> None:
        now = self.now()
        task = new_task(inbound, request, grant, policy_hash=self.policy.hash, now=now)
        if not await tasks.insert(tx, task):
            return
        await record(
            tx,
            now=now,
            actor=inbound.author,
            action="start",
            task=task.id,
            decision="granted",
            policy_hash=self.policy.hash,
            rule=grant.rule,
            repo=grant.repo,
            where=inbound.conversation.where,
        )
        await mark(tx, task, Mark.SEEN, present=True, now=now)
        await show_card(tx, task, now=now)

    async def _follow_up(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, request: words.Request
    ) -> None:
        ask = Ask(
            person=inbound.author,
            where=inbound.conversation.where,
            action="start",
            repo=task.repo,
            agent=request.agent,
            task_requester=task.requester,
        )
        match decide(self.policy, ask):
            case Grant() as grant:
                changes = FollowUp(
                    message_id=inbound.message_id,
                    prompt=task.prompt if request.word == "retry" else request.prompt,
                    grant=grant.model_dump(mode="json"),
                    policy_hash=self.policy.hash,
                    requester=inbound.author,
                    requester_name=inbound.author_name or inbound.author,
                    link=inbound.link or task.link,
                )
                await begin_round(
                    tx, task, changes, by=inbound.author, why=grant.rule, now=self.now()
                )
            case Refusal() as refusal:
                await self._refuse(tx, inbound, refusal, action="follow_up", task=task.id)
            case Choice(text=text):
                await self._tell(tx, inbound, text, task=task.id)

    async def _steer(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, request: words.Request
    ) -> None:
        if not await self._may(tx, inbound, task, action="steer"):
            return
        if task.state not in STEERABLE:
            text = f"This errand is {STATE_WORDS[task.state]}; say that again when it has ended."
            await self._tell(tx, inbound, text, task=task.id)
            return
        await self._command(tx, inbound, task, kind="steer", text=request.prompt)
        when = "the agent gets it with its next turn"
        if task.state is TaskState.PUBLISHING:
            when = "I go on with it once this is published"
        await self._tell(tx, inbound, f"Noted; {when}.", task=task.id)

    async def _stop(self, tx: AsyncConnection, inbound: Inbound, task: TaskRow) -> None:
        if task.state in TERMINAL:
            await self._tell(tx, inbound, "Nothing is running here.", task=task.id)
            return
        if task.state is TaskState.PUBLISHING:
            text = "Too late to stop: the work is done and is being published. Close the pull request if you don't want it."
            await self._tell(tx, inbound, text, task=task.id)
            return
        if await self._may(tx, inbound, task, action="stop") and not await stop_task(
            tx, task, by=inbound.author, command_id=_seq(inbound, "stop"), now=self.now()
        ):
            await self._tell(tx, inbound, "It is being stopped already.", task=task.id)

    async def _may(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, *, action: str
    ) -> bool:
        ask = Ask.model_validate(
            {
                "person": inbound.author,
                "where": inbound.conversation.where,
                "action": action,
                "repo": task.repo,
                "agent": None,
                "task_requester": task.requester,
            }
        )
        decision = decide(self.policy, ask)
        if isinstance(decision, Refusal):
            await self._refuse(tx, inbound, decision, action=action, task=task.id)
        return isinstance(decision, Grant)

    async def _command(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, *, kind: str, text: str
    ) -> None:
        now = self.now()
        row = CommandRow(
            id=_seq(inbound, kind),
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

    async def _refuse(
        self,
        tx: AsyncConnection,
        inbound: Inbound,
        refusal: Refusal,
        *,
        action: str,
        task: str = "",
    ) -> None:
        await record(
            tx,
            now=self.now(),
            actor=inbound.author,
            action=action,
            task=task,
            decision="refused",
            policy_hash=self.policy.hash,
            rule=refusal.rule,
            reason=refusal.reason,
        )
        text = f"Refused: {refusal.reason} {refusal.who_can_change}".strip()
        await self._tell(tx, inbound, text, task=task, error=True)

    async def _tell(
        self,
        tx: AsyncConnection,
        inbound: Inbound,
        text: str,
        *,
        task: str = "",
        error: bool = False,
    ) -> None:
        notice = Notice(text=text, error=error)
        await say(
            tx, inbound.conversation, notice, seq=_seq(inbound, "notice"), now=self.now(), task=task
        )


async def _open_question(tx: AsyncConnection, inbound: Inbound) -> Inbound | None:
    stored = await cursors.get(tx, _question_key(inbound))
    return Inbound.model_validate_json(stored) if stored else None


def _question_key(inbound: Inbound) -> str:
    return f"ask:{inbound.conversation.key}:{inbound.author}"


def _seq(inbound: Inbound, what: str) -> str:
    return f"{inbound.conversation.channel}:{inbound.semantic_key}:{what}"
