"""What can be asked: a method per field of `Query`, in snake_case."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import Unpack

from tests.support.linear.call import Call
from tests.support.linear.entities import (
    Attachment,
    Comment,
    Filtered,
    Issue,
    Organization,
    Session,
    Team,
    User,
)
from tests.support.linear.errors import not_found
from tests.support.linear.filters import matches
from tests.support.linear.paging import Connection, Page, connection
from tests.support.linear.world import find


@dataclass(frozen=True, slots=True)
class Queries:
    def viewer(self, call: Call) -> User:
        return call.viewer

    def organization(self, call: Call) -> Organization:
        return call.world.organization

    def issue(self, call: Call, id: str) -> Issue:  # noqa: A002 - the field's argument
        return call.world.find_issue(id, viewer=call.viewer)

    def issues(self, call: Call, **page: Unpack[Filtered]) -> Connection[Issue]:
        return _chosen(self._visible(call), call, page)

    def search_issues(
        self, call: Call, *, term: str, team_id: str | None = None, include_comments: bool = False,
        **page: Unpack[Filtered],
    ) -> Connection[Issue]:  # fmt: skip
        """Every word occurs; its identifier finds an issue too."""
        words = term.lower().split()

        def text(issue: Issue) -> str:
            said = [c.body for c in call.world.comments if include_comments and c.issue is issue]
            return " ".join([issue.identifier, issue.title, issue.description or "", *said]).lower()

        visible = [i for i in self._visible(call) if team_id in {None, i.team.id}]
        return _chosen([i for i in visible if all(w in text(i) for w in words)], call, page)

    def issue_vcs_branch_search(self, call: Call, branch_name: str) -> Issue | None:
        """By branch name, or by an identifier in it."""
        for issue in self._visible(call):
            found = re.search(rf"\b{issue.identifier}\b", branch_name, re.IGNORECASE)
            if found or issue.branch_name == branch_name:
                return issue
        return None

    def issue_repository_suggestions(
        self, call: Call, issue_id: str, candidate_repositories: Sequence[dict[str, str]],
        agent_session_id: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """What the test put into `world.suggestions`, as far as it is among the candidates."""
        issue = call.world.find_issue(issue_id, viewer=call.viewer)
        hosts = {c["repository_full_name"]: c["hostname"] for c in candidate_repositories}
        known = call.world.suggestions.get(issue.id, [])
        suggestions = [
            {"repository_full_name": name, "hostname": hosts[name], "confidence": confidence}
            for name, confidence in known
            if name in hosts
        ]
        return {"suggestions": suggestions}

    def team(self, call: Call, id: str) -> Team:  # noqa: A002 - the field's argument
        visible = [t for t in call.world.teams if call.world.sees(call.viewer, t)]
        return next((t for t in visible if id in {t.id, t.key}), None) or find([], id, "Team")

    def teams(self, call: Call, **page: Unpack[Filtered]) -> Connection[Team]:
        visible = [t for t in call.world.teams if call.world.sees(call.viewer, t)]
        return _chosen(visible, call, page)

    def user(self, call: Call, id: str) -> User:  # noqa: A002 - the field's argument
        return find(call.world.users, call.viewer.id if id == "me" else id, "User")

    def users(self, call: Call, **page: Unpack[Filtered]) -> Connection[User]:
        return _chosen(call.world.users, call, page)

    def comment(self, call: Call, id: str | None = None) -> Comment:  # noqa: A002 - as above
        if id is None:
            raise not_found("Comment")
        return call.world.find_comment(id, viewer=call.viewer)

    def agent_session(self, call: Call, id: str) -> Session:  # noqa: A002 - the field's argument
        return call.world.find_session(id, viewer=call.viewer)

    def agent_sessions(self, call: Call, **page: Unpack[Page]) -> Connection[Session]:
        """Those of every agent, as far as the viewer may see the issue."""
        visible = [s for s in call.world.sessions if call.world.sees(call.viewer, s.issue.team)]
        return connection(visible, page)

    def attachments_for_url(
        self, call: Call, url: str, **page: Unpack[Page]
    ) -> Connection[Attachment]:
        found = [
            a
            for a in call.world.attachments
            if a.url == url and call.world.sees(call.viewer, a.issue.team)
        ]
        return connection(found, page)

    def rate_limit_status(self, call: Call) -> dict[str, Any]:
        return {"identifier": call.viewer.id, "kind": "user", "limits": call.limits.status()}

    def _visible(self, call: Call) -> list[Issue]:
        return [i for i in call.world.issues if call.world.sees(call.viewer, i.team)]


# Any: whatever entity the connection is of.
def _chosen(entities: Sequence[Any], call: Call, page: Filtered) -> Connection[Any]:
    wanted = page.get("filter")
    return connection([e for e in entities if matches(e, wanted, viewer=call.viewer)], page)
