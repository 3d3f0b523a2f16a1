"""What channels may show of all this: `integrations.front.Front`, out of SQL and the policy."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import manual
from bot.in_force import InForce
from bot.intake import utc_now
from bot.places import chosen_for
from bot.progress import View, doing
from bot.pulls import state_word
from bot.starts import Asked
from bot.states import LIVE, TERMINAL, TaskState
from bot.store import cursors, followers, outbox, runs, tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from integrations.channel import Conversation, Final
from integrations.front import Details, Errand, House, Offer, Question
from integrations.wording import final_facts
from policies.decide import decide, is_open, is_trigger, operators
from policies.model import Ask, Grant, Policy
from runner.agents.catalogue import CATALOGUE

RECENT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseFront:
    store: Store
    in_force: InForce
    now: Callable[[], datetime] = utc_now

    @property
    def manual(self) -> str:
        return manual.HELP

    @property
    def policy(self) -> Policy:
        return self.in_force.policy

    async def errands(self, person: str, *, limit: int) -> tuple[Errand, ...]:
        async with self.store.read() as conn:
            mine = await tasks.of_requester(conn, person, limit=limit)
            return tuple([await self._errand(conn, task) for task in mine])

    async def questions(self, person: str) -> tuple[Question, ...]:
        async with self.store.read() as conn:
            open_ones = await cursors.set_between(conn, "ask:", f":{person}")
            mine = await tasks.of_requester(conn, person, limit=RECENT)
            waiting = [
                (task, await runs.get(conn, task.id, task.fence))
                for task in mine
                if task.state is TaskState.WAITING
            ]
        asked = [Asked.model_validate_json(value).inbound for value in open_ones.values()]
        return (
            *(Question(conversation=a.conversation, text=f"Which repository? {a.text}") for a in asked),
            *(
                Question(conversation=task.conversation, text=f"{task.title}: {doing(task, View.model_validate(run.view))}")
                for task, run in waiting
                if run is not None
            ),
        )  # fmt: skip

    async def details(self, conversation: Conversation) -> Details | None:
        async with self.store.read() as conn:
            task = await tasks.for_conversation(conn, conversation)
            if task is None:
                return None
            errand, run = await self._errand(conn, task), await runs.newest(conn, task)
            attempts = await runs.of_task(conn, task.id)
            last = await outbox.get(conn, task.id, "final", str(task.round))
        view = View.model_validate(run.view) if run else View()
        final = Final.model_validate(last.payload) if last else None
        tokens = [n for n in (view.input_tokens, view.output_tokens) if n is not None]
        grant = Grant.model_validate(task.grant)
        return Details(
            errand=errand,
            asked_by=task.requester,
            agent=view.agent,
            branch=task.branch,
            reason=task.reason,
            steps=(*view.plan, *view.checks),
            allowed=_hosts(grant),
            denied=view.denied,
            said=view.said,
            changes=final_facts(final).changes if final else "",
            files=final.files if final else 0,
            changed=final.changed if final else (),
            tokens=sum(tokens) if tokens else None,
            runs=len(attempts),
            url=task.page,
        )

    async def offer(self, person: str, where: str) -> Offer:
        async with self.store.read() as conn:
            used = [task.repo for task in await tasks.of_requester(conn, person, limit=RECENT)]
            chosen = await chosen_for(conn, where)
        grants = {name: found for name in self.policy.repos if (found := self._grant(person, where, name))}  # fmt: skip
        agents = {a for grant in grants.values() for a in grant.agents}
        meant = decide(self.policy, Ask(person=person, where=where, action="start", chosen=chosen))
        settings = [Ask(person=person, where=where, action="settings", repo=n) for n in grants]
        return Offer(
            repos=tuple(sorted(grants, key=lambda n: (used.index(n) if n in used else RECENT, n))),
            agents=tuple(sorted(CATALOGUE if "*" in agents else agents)),
            default=meant.repo if isinstance(meant, Grant) else "",
            may_set=any(isinstance(decide(self.policy, ask), Grant) for ask in settings),
        )

    async def house(self, person: str) -> House:
        groups, persons = operators(self.policy)
        named = [p for group in groups for p in self.policy.people.get(group, ())]
        reaches = (
            (name, _hosts(grant))
            for name in sorted(self.policy.repos)
            if (grant := self._grant(person, f"{person.partition(':')[0]}:*", name))
        )
        return House(operators=tuple(dict.fromkeys([*persons, *named])), reaches=tuple(reaches))

    async def live(self, channel: str) -> tuple[Conversation, ...]:
        async with self.store.read() as conn:
            found = await tasks.in_states(conn, LIVE)
            following = await followers.of_live_tasks(conn)
        everywhere = [*(task.conversation for task in found), *following]
        return tuple(dict.fromkeys(one for one in everywhere if one.channel == channel))

    def is_open(self, where: str, *, shared: bool) -> bool:
        return is_open(self.policy, where, shared=shared)

    def is_trigger(self, topic: str) -> bool:
        return is_trigger(self.policy, (topic,))

    def _grant(self, person: str, where: str, repo: str) -> Grant | None:
        """For `channel:*`, what is open to somebody anywhere in that channel."""
        places = [where]
        if where.endswith(":*"):
            places += [p for r in self.policy.rules for p in r.where if p.startswith(where[:-1])]
        for place in places:
            ask = Ask(person=person, where=place, action="start", repo=repo)
            if isinstance(found := decide(self.policy, ask), Grant):
                return found
        return None

    async def _errand(self, conn: AsyncConnection, task: TaskRow) -> Errand:
        run = await runs.newest(conn, task)
        view = View.model_validate(run.view) if run else View()
        live = task.state not in TERMINAL
        until = (run.ended_at if run else None) or task.ended_at or self.now()
        return Errand(
            conversation=task.conversation,
            title=task.title,
            repo=task.repo,
            state=await state_word(conn, task),
            live=live,
            link=task.link,
            pull_url=task.pull_url,
            seconds=run.elapsed_seconds(self.now() if live else until) if run else None,
            cost_usd=view.cost_usd,
        )


def _hosts(grant: Grant) -> tuple[str, ...]:
    """What work under this grant may reach, in words."""
    profiles = (f"profile {name}" for name in grant.profiles)
    return tuple(dict.fromkeys([*(rule.host for rule in grant.egress), *profiles]))
