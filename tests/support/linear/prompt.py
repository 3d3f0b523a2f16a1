"""`promptContext`: what an agent is told at the start, in tags that people's words are put into as they are."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.support.linear.entities import Comment, Issue, Session

if TYPE_CHECKING:
    from tests.support.linear.world import World


def prompt_context(world: "World", session: Session) -> str:
    issue = session.issue
    threads = [c for c in world.comments if c.issue is issue and c.parent is None]
    parts = [
        "\n".join(_issue(issue)),
        *(
            _thread(world, root, primary=root is session.comment)
            for root in threads
            if not root.is_artificial_agent_session_root
        ),
        "\n".join(_guidance(world, issue)),
    ]
    return "\n\n".join(part for part in parts if part)


def _issue(issue: Issue) -> Iterator[str]:
    yield f'<issue identifier="{issue.identifier}">'
    yield f"<title>{issue.title}</title>"
    if issue.description:
        yield f"<description>{issue.description}</description>"
    yield f'<team name="{issue.team.name}"/>'
    yield from (f"<label>{label.name}</label>" for label in issue.label_list)
    if issue.parent is not None:
        yield f'<parent-issue identifier="{issue.parent.identifier}">'
        yield f"<title>{issue.parent.title}</title>"
        yield "</parent-issue>"
    if issue.project is not None:
        yield f'<project name="{issue.project.name}"></project>'
    yield "</issue>"


def _thread(world: "World", root: Comment, *, primary: bool) -> str:
    tag = "primary-directive-thread" if primary else "other-thread"
    said = [root, *(c for c in world.comments if c.parent is root)]
    lines = [line for comment in said for line in _comment(comment)]
    return "\n".join([f'<{tag} comment-id="{root.id}">', *lines, f"</{tag}>"])


def _comment(comment: Comment) -> Iterator[str]:
    author = comment.user.display_name if comment.user else "Linear"
    yield f'<comment author="{author}" created-at="{comment.created_at:%Y-%m-%d %H:%M:%S}">'
    yield comment.body
    yield "</comment>"


def _guidance(world: "World", issue: Issue) -> Iterator[str]:
    rules = [(body, team) for body, team in world.guidance if team in {None, issue.team}]
    if not rules:
        return
    yield "<guidance>"
    for body, team in sorted(rules, key=lambda rule: rule[1] is None):
        origin = f'"team" team-name="{team.name}"' if team else '"organization"'
        yield f"<guidance-rule origin={origin}>{body}</guidance-rule>"
    yield "</guidance>"
