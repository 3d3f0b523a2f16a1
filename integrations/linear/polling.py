"""Linear asked for what is new, where it can't tell by itself or could not: the same Inbounds as by webhook."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from pydantic import ValidationError

from integrations.channel import Inbound, Receive
from integrations.errors import AuthError, IntegrationError, RateLimitedError
from integrations.linear.answers import (
    ChangedIssue,
    ChangedIssues,
    NewSession,
    NewSessions,
    tell_unreadable,
)
from integrations.linear.api import Api
from integrations.linear.documents import ISSUES_SINCE, SESSIONS_SINCE
from integrations.linear.events import NAME, Installation
from integrations.linear.news import from_issue, from_session
from integrations.linear.sessions import Sessions
from integrations.linear.workspaces import Workspace
from integrations.notes import Notes
from integrations.paging import onward

log = structlog.get_logger()

OVERLAP: Final = timedelta(minutes=2)
"""What Linear writes late is still seen; what was seen is known by its key."""
LONGEST: Final = timedelta(hours=6)
"""So far back the first question goes, and every later one where nothing is new: the store forgets keys in the end."""
REMEMBERED: Final = 5000


@dataclass(slots=True, kw_only=True)
class Polling:
    """Several replicas may ask: what one has stored, the store knows for all."""

    api: Api
    sessions: Sessions
    notes: Notes
    receive: Receive
    now: Callable[[], datetime]
    withdrawals: bool
    """Tell what was taken back or closed. Webhooks tell it too, by keys of their own: twice would be a second stop,
    which keeps nothing."""
    told: Callable[[bool], None]
    """Whether our credentials are taken, after each round."""
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    async def run(self, every_seconds: float) -> None:
        """Ask until cancelled. A workspace that can't be asked does not hold up the others."""
        while True:
            pause = await self._tried()
            jittered = every_seconds * random.uniform(0.8, 1.2)  # noqa: S311  no secret
            await asyncio.sleep(max(pause, jittered))

    async def _tried(self) -> float:
        try:
            return await self.round()
        except Exception:  # whatever it was: what runs beside us runs on
            log.exception("linear_not_asked")
            return 0.0

    async def round(self) -> float:
        """Ask everywhere; for how many seconds Linear wants to be left alone."""
        try:
            workspaces = await self.api.workspaces.installed()
        except IntegrationError as error:
            log.warning("linear_not_asked", error=str(error))
            self.told(not isinstance(error, AuthError))
            return _pause(error)
        pauses, taken = [0.0], True
        for workspace in workspaces:
            try:
                await self.ask(workspace)
            except IntegrationError as error:
                log.warning("linear_not_asked", workspace=workspace.url_key, error=str(error))
                pauses.append(_pause(error))
                taken = taken and not isinstance(error, AuthError)
            except Exception:  # whatever it was: the other workspaces are asked
                log.exception("linear_not_asked", workspace=workspace.url_key)
        self.told(taken)
        return max(pauses)

    async def ask(self, workspace: Workspace) -> None:
        """What is new in a workspace since it was asked last; all of it is stored before that is noted."""
        name = f"{NAME}:cursor:{workspace.organization_id}"
        now = self.now()
        known = await self.notes.get(name)
        cursor = datetime.fromisoformat(known) if known else _first(workspace, now)
        since, us = cursor - OVERLAP, workspace.installation
        # Newest first by Linear: the oldest is received first.
        sessions = [session async for session in self._new_sessions(us, since)][::-1]
        issues = [issue async for issue in self._changed_issues(us, since)][::-1]
        for session in sessions:
            for inbound in _whole(from_session(session, us, since=since, now=now)):
                await self._take(inbound)
        for issue in issues:
            for inbound in _whole(from_issue(issue, us, now=now)):
                if self.withdrawals or inbound.happening != "withdrawn":
                    await self._take(inbound)
        # By Linear's clock, not ours: how far they are apart does not matter.
        seen = [session.updated_at for session in sessions]
        seen += [issue.updated_at for issue in issues]
        await self.notes.put(name, max([cursor, now - LONGEST, *seen]).isoformat())

    async def _take(self, inbound: Inbound) -> None:
        if inbound.semantic_key in self._seen:
            return
        await self.sessions.take(inbound, self.receive)
        self._seen[inbound.semantic_key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    async def _new_sessions(self, us: Installation, since: datetime) -> AsyncIterator[NewSession]:
        after: str | None = None
        seen = set[str]()
        while True:
            answer = await self.api.ask(
                us.organization_id,
                SESSIONS_SINCE,
                NewSessions,
                since=since.isoformat(),
                after=after,
            )
            page = answer.agent_sessions
            for session in page.nodes:
                if session.updated_at < since:
                    return
                yield session
            if not page.page_info.has_next_page:
                return
            after = onward(page.page_info.end_cursor or "", seen, service=NAME)

    async def _changed_issues(
        self, us: Installation, since: datetime
    ) -> AsyncIterator[ChangedIssue]:
        after: str | None = None
        seen = set[str]()
        while True:
            answer = await self.api.ask(
                us.organization_id,
                ISSUES_SINCE,
                ChangedIssues,
                since=since.isoformat(),
                after=after,
            )
            page = answer.issues
            for issue in page.nodes:
                yield issue
            if not page.page_info.has_next_page:
                return
            after = onward(page.page_info.end_cursor or "", seen, service=NAME)


def _first(workspace: Workspace, now: datetime) -> datetime:
    """Since when to look in a workspace that was never asked: what came since it has us is not to be missed."""
    return max(workspace.installed_at or now, now - LONGEST)


def _whole(found: Iterator[Inbound]) -> Iterator[Inbound]:
    """As far as it can be understood: the rest of one does not spoil the others."""
    try:
        yield from found
    except ValidationError as error:
        tell_unreadable(error)


def _pause(error: IntegrationError) -> float:
    return error.retry_after if isinstance(error, RateLimitedError) else 0.0
