"""What the desk says to one message, where it was said, with the record of it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.asks import about
from bot.record import record
from bot.said import say, settle_one
from bot.store import tasks
from bot.store.rows import TaskRow
from integrations.channel import Inbound, Notice, Option, Question
from policies.decide import decide
from policies.model import Action, Choice, Grant, Policy, Refusal

RECENT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Each answer is said once, however often its message is dealt with."""

    policy: Policy
    now: datetime

    async def tell(
        self,
        tx: AsyncConnection,
        inbound: Inbound,
        text: str,
        *,
        task: str = "",
        error: bool = False,
        what: str = "notice",
    ) -> None:
        """One answer to a message of each `what`."""
        notice = Notice(text=text, error=error)
        seq = seq_of(inbound, what)
        await say(tx, inbound.conversation, notice, seq=seq, now=self.now, task=task)

    async def ask(self, tx: AsyncConnection, inbound: Inbound, choice: Choice, *, to: str) -> str:
        """Ask somebody which repository is meant, those first that they used last; the question's name."""
        used = [task.repo for task in await tasks.of_requester(tx, to, limit=RECENT)]

        def rank(option: str) -> tuple[bool, int]:
            unlikely = choice.options.index(option) >= choice.likely > 0
            return unlikely, used.index(option) if option in used else len(used)

        likely = sorted(choice.options, key=rank)
        options = tuple(Option(label=option, words=option) for option in likely)
        question = Question(text=choice.text, options=options, to=to)
        seq = seq_of(inbound, "question")
        await say(tx, inbound.conversation, question, seq=seq, now=self.now)
        return seq

    async def settle(self, tx: AsyncConnection, seq: str, chosen: str) -> None:
        """Show that a question before any task is answered."""
        await settle_one(tx, "", seq=seq, chosen=chosen, now=self.now)

    async def refuse(
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
            now=self.now,
            actor=inbound.author,
            action=action,
            task=task,
            decision="refused",
            policy_hash=self.policy.hash,
            rule=refusal.rule,
            reason=refusal.reason,
        )
        text = f"Refused: {refusal.reason} {refusal.who_can_change}".strip()
        await self.tell(tx, inbound, text, task=task, error=True)

    async def granted(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, *, action: Action
    ) -> bool:
        """May they do this to the task? A refusal has been said."""
        decision = decide(self.policy, about(task, inbound, action=action))
        if isinstance(decision, Refusal):
            await self.refuse(tx, inbound, decision, action=action, task=task.id)
        return isinstance(decision, Grant)


def seq_of(inbound: Inbound, what: str) -> str:
    return f"{inbound.conversation.channel}:{inbound.semantic_key}:{what}"
