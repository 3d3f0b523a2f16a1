"""One errand seen from two places: conversations of ours that follow a task elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import words
from bot.said import begin_elsewhere
from bot.store.rows import TaskRow
from integrations.channel import Conversation
from integrations.tracker import Tracker
from policies.model import Grant, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    policy: Policy
    trackers: Mapping[str, Tracker]

    async def open_for(
        self,
        tx: AsyncConnection,
        task: TaskRow,
        request: words.Request,
        grant: Grant,
        *,
        now: datetime,
    ) -> None:
        """Where the policy wants the task to be shown, and on the ticket that the request names."""
        for place in grant.follow:
            channel, _, there = place.partition(":")
            where = Conversation(channel=channel, place=there, thread="")
            await begin_elsewhere(tx, task, where, now=now)
        for name, tracker in self.trackers.items():
            item = tracker.item_in(request.prompt)
            if item and name != task.conversation.channel:
                team = item.partition("-")[0]
                where = Conversation(channel=name, place=team, thread=item)
                await begin_elsewhere(tx, task, where, now=now)

    async def open_ticket(
        self, tx: AsyncConnection, task: TaskRow, text: str, *, now: datetime
    ) -> str:
        """Make a ticket of the task; what to say about it."""
        team = words.team_in(text)
        for name in self.trackers:
            if name == task.conversation.channel:
                return "This is a ticket already."
            if team := team or self._team_of(name, task.repo):
                where = Conversation(channel=name, place=team, thread="")
                await begin_elsewhere(tx, task, where, now=now)
                return f"A ticket in {team} is on its way; it will follow this errand."
        if not self.trackers:
            return "No ticket system is connected here."
        return f"Say in which team: `create issue in ENG`. (Or name one in the policy, under `default_for` of {task.repo}.)"

    def _team_of(self, tracker: str, repo: str) -> str:
        """The first team whose tickets mean this repository."""
        described = self.policy.repos.get(repo)
        for place in described.default_for if described else ():
            channel, _, team = place.partition(":")
            if channel == tracker and ":" not in team and team != "*":
                return team
        return ""
