"""What can be changed: a method per field of `Mutation`, in snake_case."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.support.linear import sessions
from tests.support.linear.call import Call
from tests.support.linear.entities import Attachment, Entity, Issue, Label, Reaction, Session, User
from tests.support.linear.errors import conflict, invalid, refused
from tests.support.linear.world import find

_PULL_REQUEST: Final = re.compile(r"https?://[^/]+/[^/]+/[^/]+/pull/\d+/?")
Given = Mapping[str, Any]
"""An input as it came; Any: what the schema has checked."""
Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mutations:
    def agent_activity_create(self, call: Call, input: Given) -> Payload:  # noqa: A002 - argument
        session = call.world.find_session(input["agent_session_id"], viewer=call.viewer)
        activity = sessions.act(call.world, session, input, by=call.viewer)
        return _payload(agent_activity=activity)

    def agent_session_update(self, call: Call, id: str, input: Given) -> Payload:  # noqa: A002
        session = call.world.find_session(id, viewer=call.viewer)
        sessions.update(call.world, session, input, by=call.viewer)
        return _payload(agent_session=session)

    def agent_session_create_on_issue(self, call: Call, input: Given) -> Payload:  # noqa: A002
        issue = call.world.find_issue(input["issue_id"], viewer=call.viewer)
        return self._begun(call, sessions.begin(call.world, issue, creator=call.viewer), input)

    def agent_session_create_on_comment(self, call: Call, input: Given) -> Payload:  # noqa: A002
        comment = call.world.find_comment(input["comment_id"], viewer=call.viewer)
        sessions.check_root(call.world, comment)
        session = sessions.begin(
            call.world, comment.issue, creator=call.viewer, comment=comment
        )  # fmt: skip
        return self._begun(call, session, input)

    def issue_update(self, call: Call, id: str, input: Given) -> Payload:  # noqa: A002 - argument
        issue = call.world.find_issue(id, viewer=call.viewer)
        call.world.change(issue, _changes(call, issue, input), by=call.viewer)
        return _payload(issue=issue)

    def issue_create(self, call: Call, input: Given) -> Payload:  # noqa: A002 - the argument
        team = find(call.world.teams, input["team_id"], "Team")
        if not input.get("title"):
            raise invalid("title must not be empty")
        issue = call.world.issue(
            input["title"], team=team, creator=call.viewer, issue_id=input.get("id"),
            state="backlog",
        )  # fmt: skip
        for name, value in _changes(call, issue, input).items():
            setattr(issue, name, value)
        return _payload(issue=issue)

    def comment_create(self, call: Call, input: Given) -> Payload:  # noqa: A002 - the argument
        parent = None
        if input.get("parent_id"):
            parent = call.world.find_comment(input["parent_id"], viewer=call.viewer)
        if not (input.get("body") or "").strip():
            raise invalid("body must not be empty")
        if parent is None and not input.get("issue_id"):
            raise invalid("A comment needs an issueId or a parentId")
        issue = (
            parent.issue if parent else call.world.find_issue(input["issue_id"], viewer=call.viewer)
        )
        made = call.world.comment(
            issue, input["body"], user=call.viewer, parent=parent, comment_id=input.get("id")
        )
        return _payload(comment=made)

    def reaction_create(self, call: Call, input: Given) -> Payload:  # noqa: A002 - the argument
        world, emoji = call.world, input["emoji"]
        comment_id, issue_id = input.get("comment_id"), input.get("issue_id")
        if (comment_id is None) == (issue_id is None):
            raise invalid("A reaction needs one target")
        comment = world.find_comment(comment_id, viewer=call.viewer) if comment_id else None
        issue = world.find_issue(issue_id, viewer=call.viewer) if issue_id else None
        for one in world.reactions:
            if (one.user, one.emoji, one.comment, one.issue) == (
                call.viewer,
                emoji,
                comment,
                issue,
            ):
                raise conflict("Reaction", one.id)
        made = Reaction(
            **world.stamp(input.get("id"), among=world.reactions), emoji=emoji, user=call.viewer,
            comment=comment, issue=issue,
        )  # fmt: skip
        world.reactions.append(made)
        return _payload(reaction=made)

    def attachment_create(self, call: Call, input: Given) -> Payload:  # noqa: A002 - argument
        fields = {
            name: input[name]
            for name in ("title", "subtitle", "metadata", "group_by_source")
            if input.get(name) is not None
        }
        return self._attached(call, input, **fields)

    def attachment_link_url(self, call: Call, **given: Any) -> Payload:
        return self._attached(call, given, title=given.get("title") or given["url"])

    def attachment_link_git_hub_pr(self, call: Call, **given: Any) -> Payload:
        if not call.world.github_integration:
            raise refused("The GitHub integration is not connected")
        if not _PULL_REQUEST.fullmatch(given["url"]):
            raise invalid("url must be that of a GitHub pull request")
        title = given.get("title") or given["url"]
        return self._attached(call, given, title=title, source_type="github")

    def attachment_link_slack(self, call: Call, **given: Any) -> Payload:
        title = given.get("title") or given["url"]
        return self._attached(call, given, title=title, source_type="slack")

    def _attached(self, call: Call, given: Given, **fields: Any) -> Payload:
        """The same address at the same issue is the same attachment: it is updated."""
        world = call.world
        issue = world.find_issue(given["issue_id"], viewer=call.viewer)
        here = [a for a in world.attachments if a.issue is issue and a.url == given["url"]]
        if not here:
            here = [
                Attachment(
                    **world.stamp(given.get("id"), among=world.attachments), issue=issue,
                    url=given["url"], title=fields["title"], creator=call.viewer,
                )
            ]  # fmt: skip
            world.attachments.extend(here)
        for name, value in fields.items():
            setattr(here[0], name, value)
        here[0].updated_at = world.now()
        return _payload(attachment=here[0])

    def _begun(self, call: Call, session: Session, given: Given) -> Payload:
        links = {n: given[n] for n in ("external_link", "external_urls") if n in given}
        sessions.update(call.world, session, links, by=call.viewer)
        return _payload(agent_session=session)


def _payload(**fields: Any) -> Payload:
    return {"success": True, "last_sync_id": 1.0, **fields}


def _changes(call: Call, issue: Issue, given: Given) -> dict[str, Any]:
    """The attributes that an input sets; null takes away."""
    world = call.world
    plain = ("title", "description", "priority", "estimate", "due_date")
    changes = {name: given[name] for name in plain if name in given}
    if not 0 <= changes.get("priority", 0) <= 4:
        raise invalid("priority must be 0 to 4")
    sources: dict[str, Iterable[Entity]] = {
        "assignee": world.users, "delegate": world.users, "parent": world.issues,
        "project": world.projects, "state": issue.team.state_list,
    }  # fmt: skip
    for name, among in sources.items():
        if f"{name}_id" in given:
            wanted = given[f"{name}_id"]
            changes[name] = None if wanted is None else find(among, wanted, _KINDS[name])
    _check_people(changes)
    if (labels := _labels(call, issue, given)) is not None:
        changes["label_list"] = labels
    return changes


_KINDS: Final = {
    "assignee": "User", "delegate": "User", "parent": "Issue", "project": "Project",
    "state": "WorkflowState",
}  # fmt: skip


def _check_people(changes: Mapping[str, Any]) -> None:
    delegate, assignee = changes.get("delegate"), changes.get("assignee")
    if isinstance(delegate, User) and not delegate.app:
        raise refused("Issues can be delegated to agents only")
    if isinstance(assignee, User) and assignee.app:
        raise refused("Agents are delegates, not assignees")


def _labels(call: Call, issue: Issue, given: Given) -> list[Label] | None:
    if not given.keys() & {"label_ids", "added_label_ids", "removed_label_ids"}:
        return None
    wanted = given.get("label_ids")
    ids = issue.label_ids if wanted is None else list(wanted)
    ids += [one for one in given.get("added_label_ids") or [] if one not in ids]
    gone = given.get("removed_label_ids") or []
    return [find(call.world.labels, one, "IssueLabel") for one in ids if one not in gone]
