"""What people have set for a place: the repository that is meant where a request names none."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.answers import Answers
from bot.asks import to_set
from bot.record import record
from bot.store import cursors
from bot.words import Request
from integrations.channel import Inbound
from policies.decide import decide
from policies.model import Refusal

NONE = "none"


async def chosen_for(conn: AsyncConnection, where: str) -> str | None:
    """The repository that was set, if one was."""
    return await cursors.get(conn, _key(where)) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    answers: Answers

    async def set(self, tx: AsyncConnection, inbound: Inbound, request: Request) -> None:
        """`settings repo=owner/name`, `settings repo=none`; `settings` alone says what is set."""
        where = inbound.conversation.where
        before = await chosen_for(tx, where)
        if request.repo is None:
            now = f"is {before}" if before else "is not set"
            text = f"The default repository of {where} {now}. `settings repo=owner/name` sets it, `settings repo=none` unsets it."
            await self.answers.tell(tx, inbound, text)
        elif request.repo != NONE:
            await self._change(tx, inbound, request.repo, to=request.repo)
        elif before is None:
            await self.answers.tell(tx, inbound, f"No default is set for {where}.")
        else:
            await self._change(tx, inbound, before, to="")

    async def _change(self, tx: AsyncConnection, inbound: Inbound, repo: str, *, to: str) -> None:
        """Who may make a repository the default may also take that back."""
        where = inbound.conversation.where
        decision = decide(self.answers.policy, to_set(inbound, repo=repo))
        if isinstance(decision, Refusal):
            await self.answers.refuse(tx, inbound, decision, action="settings")
            return
        name = next((n for n in self.answers.policy.repos if n.lower() == to.lower()), "")
        await cursors.put(tx, _key(where), name)
        await record(
            tx,
            now=self.answers.now,
            actor=inbound.author,
            action="settings",
            decision="granted",
            policy_hash=self.answers.policy.hash,
            where=where,
            repo=name,
        )
        text = f"A request in {where} that names no repository means {name} now."
        await self.answers.tell(
            tx, inbound, text if name else f"No default is set for {where} now."
        )


def _key(where: str) -> str:
    return f"place:{where}"
