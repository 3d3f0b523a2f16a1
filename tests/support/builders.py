"""Values for tests, with everything filled in that a test does not care about."""

from datetime import UTC, datetime, timedelta

from bot.states import TaskState
from bot.store.rows import TaskRow
from integrations.channel import Conversation, Inbound
from policies.model import Policy

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

POLICY = Policy.model_validate(
    {
        "version": 1,
        "people": {"maintainers": ["fake:dana"]},
        "rules": [
            {
                "who": ["*"],
                "where": ["fake:C0WEB"],
                "repos": ["acme/web"],
                "agents": ["*"],
                "may": ["start", "steer", "stop"],
            },
            {
                "who": ["maintainers"],
                "where": ["*"],
                "repos": ["*"],
                "agents": ["*"],
                "may": ["start", "steer", "stop", "approve", "settings"],
            },
        ],
        "repos": {"acme/web": {"forge": "local"}, "acme/api": {"forge": "local"}},
    }
)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def a_conversation(*, team: str = "T0", place: str = "C0WEB", thread: str = "1.0") -> Conversation:
    return Conversation(channel="fake", team=team, place=place, thread=thread)


def an_inbound(
    text: str = "acme/web fix it",
    *,
    event: str = "Ev1",
    message: str = "1.0",
    thread: str = "1.0",
    place: str = "C0WEB",
    author: str = "fake:dana",
    addressed: bool = True,
) -> Inbound:
    return Inbound(
        event_id=event,
        semantic_key=f"T0:{place}:{message}",
        conversation=a_conversation(place=place, thread=thread),
        message_id=message,
        author=author,
        author_name=author.partition(":")[2],
        text=text,
        addressed=addressed,
        link="",
        received_at=NOW,
    )


def a_task(*, state: TaskState = TaskState.RUNNING, **changes: object) -> TaskRow:
    row = TaskRow(
        id="01task",
        origin="fake:T0:C0WEB:1.0",
        conversation=a_conversation(),
        message_id="1.0",
        requester="fake:dana",
        requester_name="dana",
        title="Fix it",
        link="https://example.com/p1",
        forge="local",
        repo="acme/web",
        repo_reason="named in the request",
        branch="errand/01task-fix-it",
        prompt="fix it",
        grant={},
        policy_hash="f" * 64,
        state=state,
        fence=1,
        round=1,
        attempts=1,
        pull_url="",
        reason="",
        created_at=NOW,
        changed_at=NOW,
        ended_at=None,
    )
    return TaskRow.model_validate(row.model_dump() | changes)
