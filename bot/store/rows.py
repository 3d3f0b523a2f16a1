"""What the tables hold, as values."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bot.states import TaskState
from integrations.channel import Conversation, Inbound
from runner.protocol import EventRecord


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class InboxRow(_Row):
    id: int
    inbound: Inbound
    state: str
    """raw (to be completed), new, done (led to something), ignored, dead (failed too often)."""
    tries: int
    received_at: datetime


class DeadRow(_Row):
    """A delivery that failed for good."""

    id: int
    source: str
    inbound: Inbound | None
    """None where it can't be read: damaged, or of another version."""
    tries: int
    error: str
    received_at: datetime


class TaskRow(_Row):
    id: str
    """ULID, lower case."""
    origin: str
    """`<channel>:<semantic key>` of the message that asked for it; unique."""
    conversation: Conversation
    message_id: str
    """The message of the current round, for reactions."""
    requester: str
    requester_name: str
    title: str
    link: str
    forge: str
    repo: str
    repo_reason: str
    branch: str
    prompt: str
    """The instruction of the current round."""
    context: str = ""
    """What others wrote around the request: data for the agent."""
    guidance: str = ""
    """Rules that the owners of the place set for agents."""
    page: str = ""
    """Address of the page that shows the task."""
    item: str = ""
    """The ticket it is about, if it came from one."""
    priority: int = 0
    """1 is the most urgent, 4 the least; 0 says nothing."""
    waits_for: tuple[str, ...] = ()
    """Tickets that must be done before it starts."""
    grant: dict[str, Any]
    """`policies.model.Grant` of the current round, as JSON."""
    policy_hash: str
    state: TaskState
    fence: int
    """Number of the newest run; 0 before the first."""
    round: int
    """1, then one more for every follow-up after the end."""
    attempts: int
    """Runs of the current round."""
    pull_url: str
    reason: str
    """Why it ended as it did, for people."""
    created_at: datetime
    changed_at: datetime
    ended_at: datetime | None


class RunRow(_Row):
    task: str
    fence: int
    round: int
    host: str
    agent: str
    image: str
    image_digest: str
    base_commit: str
    policy_hash: str
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str
    """Empty while it runs; then done, failed, stopped, expired, lost."""
    reason: str
    view: dict[str, Any]
    """`bot.progress.View` as JSON: what the card is made from."""

    def elapsed_seconds(self, now: datetime) -> int:
        """Since it started; 0 if it never did, or by its host's clock has yet to."""
        return max(0, int((now - self.started_at).total_seconds())) if self.started_at else 0


class OutboxRow(_Row):
    id: str
    """UUIDv4; travels with the message, so that it can be found again."""
    task: str
    conversation: Conversation
    kind: str
    """card, notice, final, question, mark, open."""
    seq: str
    """With task and kind the natural key: `card`/`1` is the card of round 1."""
    version: int
    """Grows when the payload is replaced before or after sending."""
    payload: dict[str, Any]
    """A Reply; {"message_id", "mark", "present"} for kind mark; an Opening for kind open."""
    urgent: bool
    """May overtake what is not: instant reactions, final messages over card edits."""
    state: str
    """pending, sending, sent, dead."""
    tries: int
    next_at: datetime
    claim_until: datetime | None
    first_claim_at: datetime | None
    """When the first attempt began: where a look-up starts from."""
    remote_id: str
    """The channel's id of the message, once it is there."""
    sent_version: int
    error: str
    created_at: datetime


class CommandRow(_Row):
    id: str
    task: str
    fence: int
    kind: str
    text: str
    author: str
    state: str
    """pending, sent, done."""
    created_at: datetime
    sent_at: datetime | None


class ApprovalRow(_Row):
    """What somebody decided about one host."""

    id: str
    repo: str
    task: str
    """Empty where it holds for the whole repository."""
    host: str
    ports: tuple[str, ...]
    methods: tuple[str, ...] | None
    """None: every method."""
    verdict: Literal["allow", "block"]
    by: str
    decided_at: datetime
    expires_at: datetime | None
    """None: with its task."""


class AuditEntry(_Row):
    """One line of the record: who did what, on which task, and what was decided."""

    at: datetime
    actor: str
    """`slack:U0DANA`, or the part of Errand that acted: `dispatch`, `gateway`."""
    action: str
    task: str = ""
    decision: str = ""
    policy_hash: str = ""
    detail: dict[str, Any] = {}


class AuditRow(AuditEntry):
    id: int
    previous: str
    """Hash of the row before, 64 zeros for the first."""
    hash: str


class EventRow(_Row):
    record: EventRecord
    stored_at: datetime
