"""How work begins: a new task, the next round of an old one, or word that it is under way already."""

from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import words
from bot.answers import Answers
from bot.asks import about, to_start
from bot.mirrors import Mirrors
from bot.pages import PageLinks
from bot.pictures import note_pictures
from bot.places import chosen_for
from bot.record import record
from bot.said import introduce, mark, show_card, whereabouts
from bot.states import TERMINAL, TaskState
from bot.store import cursors, tasks
from bot.store.rows import TaskRow
from bot.store.tasks import FollowUp
from bot.tasks import begin_round, new_task
from integrations.channel import Inbound, Mark
from policies.decide import decide
from policies.model import Choice, Grant, Refusal

log = structlog.get_logger()

BEFORE = "This errand had been stopped at work on:"
MOST_BEFORE = 8_000
"""Characters."""


class Asked(BaseModel):
    """A request that waits for the answer to our question, and which question that is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inbound: Inbound
    seq: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    answers: Answers
    mirrors: Mirrors
    pages: PageLinks

    async def start(
        self,
        tx: AsyncConnection,
        inbound: Inbound,
        request: words.Request,
        *,
        repo: str | None,
        answer: Inbound | None = None,
    ) -> None:
        """Begin what `inbound` asks for, if the policy grants it; `answer` is what was said to our question."""
        chosen = await chosen_for(tx, inbound.conversation.where)
        match decide(self.answers.policy, to_start(inbound, request, repo=repo, chosen=chosen)):
            case Refusal() as refusal:
                await self.answers.refuse(tx, inbound, refusal, action="start")
            case Choice() as choice:
                seq = await self.answers.ask(tx, answer or inbound, choice, to=inbound.author)
                asked = Asked(inbound=inbound, seq=seq)
                await cursors.put(tx, question_key(inbound), asked.model_dump_json())
            case Grant() as grant:
                await self._begin(tx, inbound, request, grant)

    async def follow_up(
        self,
        tx: AsyncConnection,
        inbound: Inbound,
        task: TaskRow,
        request: words.Request,
    ) -> None:
        """The next round of an ended task, on the same branch, answered where this was said."""
        before = Grant.model_validate(task.grant)
        agent, model = request.agent or before.agent, request.model or before.model or None
        asked = about(task, inbound, action="start", agent=agent, model=model)
        match decide(self.answers.policy, asked):
            case Grant() as grant:
                changes = FollowUp(
                    message_id=inbound.message_id,
                    prompt=task.prompt if request.word == "retry" else request.prompt,
                    grant=grant.model_dump(mode="json"),
                    policy_hash=self.answers.policy.hash,
                    requester=inbound.author,
                    requester_name=inbound.author_name or inbound.author,
                    link=inbound.link or task.link,
                )
                if around := _around(task, inbound, request):
                    changes["context"] = around
                if inbound.conversation not in await whereabouts(tx, task):
                    changes["conversation"] = inbound.conversation
                by, now = inbound.author, self.answers.now
                await note_pictures(tx, task.id, task.round + 1, inbound.pictures)
                await begin_round(tx, task, changes, by=by, why=grant.rule, now=now)
            case Refusal() as refusal:
                await self.answers.refuse(tx, inbound, refusal, action="follow_up", task=task.id)
            case Choice() as choice:
                await self.answers.tell(tx, inbound, choice.text, task=task.id)

    async def _begin(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request, grant: Grant
    ) -> None:
        """One errand at a time on each ticket: what is asked for again goes to the one that is there."""
        before = await tasks.for_item(tx, inbound.item, repo=grant.repo) if inbound.item else None
        if before is None:
            await self._create(tx, inbound, request, grant)
            return
        if before.state in TERMINAL:
            await self.follow_up(tx, inbound, before, request)
            return
        text = f"{inbound.item} is being worked on already: {before.title} · {before.repo}. It is shown here too."
        await self.answers.tell(tx, inbound, text, task=before.id)
        if inbound.conversation not in await whereabouts(tx, before):
            await introduce(tx, before, inbound.conversation, now=self.answers.now)

    async def _create(
        self, tx: AsyncConnection, inbound: Inbound, request: words.Request, grant: Grant
    ) -> None:
        now, policy = self.answers.now, self.answers.policy
        task = new_task(
            inbound, request, grant, policy_hash=policy.hash, page_of=self.pages.address, now=now
        )
        if not await tasks.insert(tx, task):
            return
        await note_pictures(tx, task.id, task.round, inbound.pictures)
        if request.branch and task.branch != request.branch:
            text = f"I work on {task.branch}: `branch=` takes a name like team/fix-login, in small letters."
            await self.answers.tell(tx, inbound, text, task=task.id)
        await record(
            tx,
            now=now,
            actor=inbound.author,
            action="start",
            task=task.id,
            decision="granted",
            policy_hash=policy.hash,
            rule=grant.rule,
            repo=grant.repo,
            where=inbound.conversation.where,
        )
        await mark(tx, task, Mark.SEEN, present=True, now=now)
        await show_card(tx, task, now=now)
        await self.mirrors.open_for(tx, task, request, grant, now=now)


def _around(task: TaskRow, inbound: Inbound, request: words.Request) -> str:
    """What the next round is told besides; what was stopped was not done, so it is told what that was."""
    if task.state is not TaskState.STOPPED or request.word == "retry":
        return inbound.context
    before = f"{BEFORE}\n{task.prompt[:MOST_BEFORE]}"
    return "\n\n".join(part for part in (before, inbound.context or task.context) if part)


def question_key(inbound: Inbound) -> str:
    """What an open question to this person, here, is kept under."""
    return f"ask:{inbound.conversation.key}:{inbound.author}"
