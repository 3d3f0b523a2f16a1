"""Linear as a tracker."""

import re
from collections.abc import Sequence
from typing import Final

from integrations.channel import Conversation, Inbound, Suggestion
from integrations.linear.answers import BlockedIssue, BlockedSession, Suggestions
from integrations.linear.api import Api
from integrations.linear.documents import ISSUE_BLOCKERS, SESSION_BLOCKERS, SUGGEST
from integrations.linear.events import ISSUE_PREFIX
from integrations.linear.ids import is_id
from integrations.linear.sessions import Sessions

MAX_CANDIDATES: Final = 50
_ITEM: Final = re.compile(r"(?<![\w-])([A-Z][A-Z0-9]{0,9})-[1-9][0-9]{0,6}(?![\w-])")


class Tickets:
    def __init__(self, api: Api, sessions: Sessions, *, repository_host: str) -> None:
        self._api = api
        self._sessions = sessions
        self._host = repository_host

    async def suggest(self, inbound: Inbound, repos: Sequence[str]) -> Suggestion | None:
        """Linear's best guess among the first fifty."""
        here = inbound.conversation
        if not repos or not is_id(inbound.message_id):
            return None
        candidates = [
            {"hostname": self._host, "repositoryFullName": repo} for repo in repos[:MAX_CANDIDATES]
        ]
        answer = await self._api.ask(
            here.team,
            SUGGEST,
            Suggestions,
            issueId=inbound.message_id,
            session=await self._sessions.known(here),
            candidates=candidates,
        )
        by_name = {repo.lower(): repo for repo in repos}
        guesses = [
            Suggestion(repo=known, confidence=min(max(guess.confidence, 0.0), 1.0))
            for guess in answer.issue_repository_suggestions.suggestions
            if (known := by_name.get(guess.repository_full_name.lower())) is not None
        ]
        return max(guesses, key=lambda guess: guess.confidence, default=None)

    async def blockers(self, conversation: Conversation) -> tuple[str, ...]:
        team, thread = conversation.team, conversation.thread
        if thread.startswith(ISSUE_PREFIX):
            issue_id = thread.removeprefix(ISSUE_PREFIX)
            found = await self._api.ask(team, ISSUE_BLOCKERS, BlockedIssue, id=issue_id)
        else:
            answer = await self._api.ask(team, SESSION_BLOCKERS, BlockedSession, id=thread)
            found = answer.agent_session
        return found.issue.waits_for if found.issue else ()

    def item_in(self, text: str) -> str | None:
        """The first that is of a team we know; of any team while we know none."""
        known = self._api.workspaces.team_keys
        for match in _ITEM.finditer(text):
            if not known or match[1] in known:
                return match[0]
        return None
