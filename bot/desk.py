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
from bot.said import mark, say, show_card
from bot.states import IN_SANDBOX, TERMINAL, TaskState
from bot.store import commands, cursors, inbox, runs, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError
from bot.store.rows import CommandRow, InboxRow, TaskRow
from bot.tasks import new_task, stop_task
from integrations.channel import Inbound, Mark, Notice, Question
from policies.decide import decide
from policies.model import Ask, Choice, Grant, Policy, Refusal

log = structlog.get_logger()

MAX_TRIES = 5
SWEEP_SECONDS = 5.0
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
        async with self.store.read() as conn:
            rows = await inbox.new(conn, limit=limit)
        for row in rows:
            await self._take(row)
        if rows:
            for signal in (self.spoken, self.queued, self.commanded):
                signal.set()
        return len(rows)

    async def _take(self, row: InboxRow) -> None:
        try:
            async with self.store.begin() as tx:
                led_somewhere = await self.handle(tx, row.inbound)
                await inbox.finish(tx, row.id, state="done" if led_somewhere else "ignored")
        except (ValidationError, ValueError, LookupError) as error:
            log.exception("delivery_failed", inbox=row.id)
            async with self.store.begin() as tx:
                tries = await inbox.fail(tx, row.id, error=repr(error))
                if tries >= MAX_TRIES:
                    await inbox.finish(tx, row.id, state="dead")
                    text = (
                        "I could not read this request. The operator finds the reason in the log."
                    )
                    await self._tell(tx, row.inbound, text, error=True)

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
                await self._tell(tx, inbound, await _status(tx, task, self.now()), task=task.id)
            case "stop":
                await self._stop(tx, inbound, task)
            case _ if task.state in TERMINAL:
                await self._follow_up(tx, inbound, task, request)
            case _:
                await self._steer(tx, inbound, task, request)
        return True

    async def _without_task(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request
    ) -> bool:
        asked = await _open_question(tx, inbound)
        if asked is not None:
            answer = words.read(inbound.text, repos=tuple(self.policy.repos))
            repo = answer.repo or inbound.text.strip().strip("`")
            if inbound.author == asked.author and repo in self.policy.repos:
                await cursors.put(tx, _question_key(inbound), "")
                first = words.read(asked.text, repos=tuple(self.policy.repos))
                await self._start(tx, asked, first, repo=repo)
                return True
        if not inbound.addressed:
            return False
        if request.word in {"help", "status", "stop", "retry"} or not request.prompt:
            prefix = "" if request.word == "help" or not request.prompt else "Nothing runs here.\n"
            await self._tell(tx, inbound, prefix + HELP)
            return True
        await self._start(tx, inbound, request, repo=request.repo)
        return True

    async def _start(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request, *, repo: str | None
    ) -> None:
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
                question = Question(text=text, options=options)
                seq = _seq(inbound, "question")
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
                now = self.now()
                prompt = task.prompt if request.word == "retry" else request.prompt
                await tasks.reopen(
                    tx,
                    task.id,
                    message_id=inbound.message_id,
                    prompt=prompt,
                    grant=grant.model_dump(mode="json"),
                    policy_hash=self.policy.hash,
                    now=now,
                )
                await record(
                    tx,
                    now=now,
                    actor=inbound.author,
                    action="follow_up",
                    task=task.id,
                    decision="granted",
                    policy_hash=self.policy.hash,
                    rule=grant.rule,
                )
                fresh = await tasks.get(tx, task.id)
                if fresh is not None:
                    await mark(tx, fresh, Mark.SEEN, present=True, now=now)
                    await show_card(tx, fresh, now=now)
            case Refusal() as refusal:
                await self._refuse(tx, inbound, refusal, action="follow_up", task=task.id)
            case Choice(text=text):
                await self._tell(tx, inbound, text, task=task.id)

    async def _steer(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, request: words.Request
    ) -> None:
        if not await self._may(tx, inbound, task, action="steer"):
            return
        if task.state not in {TaskState.QUEUED, *IN_SANDBOX} or task.state is TaskState.STOPPING:
            text = f"This errand is {STATE_WORDS[task.state]}; say that again when it has ended."
            await self._tell(tx, inbound, text, task=task.id)
            return
        await self._command(tx, inbound, task, kind="steer", text=request.prompt)
        await self._tell(tx, inbound, "Noted; the agent gets it with its next turn.", task=task.id)

    async def _stop(self, tx: AsyncConnection, inbound: Inbound, task: TaskRow) -> None:
        if task.state in TERMINAL:
            await self._tell(tx, inbound, "Nothing is running here.", task=task.id)
            return
        if task.state is TaskState.PUBLISHING:
            text = "Too late to stop: the work is done and is being published. Close the pull request if you don't want it."
            await self._tell(tx, inbound, text, task=task.id)
            return
        if await self._may(tx, inbound, task, action="stop"):
            await stop_task(
                tx, task, by=inbound.author, command_id=_seq(inbound, "stop"), now=self.now()
            )

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


async def _status(tx: AsyncConnection, task: TaskRow, now: datetime) -> str:
    run = await runs.get(tx, task.id, task.fence) if task.fence else None
    since = run.started_at if run and run.started_at else task.changed_at
    minutes = int((now - since).total_seconds() // 60)
    text = f"{task.title} · {task.repo} · {STATE_WORDS[task.state]}, {minutes} min"
    if doing := (run.view.get("doing") if run and task.state not in TERMINAL else ""):
        text += f"\n{doing}"
    return f"{text}\n{task.pull_url}" if task.pull_url else text


async def _open_question(tx: AsyncConnection, inbound: Inbound) -> Inbound | None:
    stored = await cursors.get(tx, _question_key(inbound))
    return Inbound.model_validate_json(stored) if stored else None


def _question_key(inbound: Inbound) -> str:
    return f"ask:{inbound.conversation.key}"


def _seq(inbound: Inbound, what: str) -> str:
    return f"{inbound.conversation.channel}:{inbound.semantic_key}:{what}"
