"""The port to a place where people talk, and the neutral words it speaks."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # fastapi takes a third of a second to load, and a worker has no use for it
    from fastapi import APIRouter


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Conversation(_Value):
    """Where a request came from and where its answers go."""

    channel: str
    """Name of the channel: slack, console."""
    team: str = ""
    """Workspace, where the channel has several."""
    place: str
    """Channel or room id."""
    thread: str
    """Id of the conversation inside the place: Slack's root ts, Linear's session."""

    @property
    def key(self) -> str:
        return f"{self.channel}:{self.team}:{self.place}:{self.thread}"

    @property
    def where(self) -> str:
        """The place as a policy names it."""
        return f"{self.channel}:{self.place}"


PictureKind = Literal["image/png", "image/jpeg", "image/gif", "image/webp"]


class Picture(_Value):
    """One that came with what was said; kept already."""

    name: str
    kind: PictureKind


class Suggestion(_Value):
    """A repository that the channel thinks is meant."""

    repo: str
    confidence: float = Field(ge=0, le=1)


Happening = Literal["said", "triggered", "withdrawn", "gone", "corrected", "rated"]
Standing = Literal["", "unknown", "guest", "outsider", "bot"]


class Inbound(_Value):
    """One thing that somebody said, or that happened to a request, in neutral words."""

    event_id: str
    """The vendor's id of the delivery; (channel, event_id) is stored once."""
    semantic_key: str
    """Same for every delivery of the same utterance, across event types."""
    conversation: Conversation
    message_id: str
    """Id of the message, for reactions."""
    author: str
    """As a policy names people: `slack:U0DANA`."""
    author_name: str
    text: str
    """Plain text; the mention of the bot is removed."""
    addressed: bool
    """Said to the bot (a mention, a direct message). Else it counts only in a thread that has a task."""
    link: str = ""
    """Permalink to the message, if the vendor gives one."""
    received_at: datetime
    happening: Happening = "said"
    """`triggered`: nobody spoke, but a label or state was set that a policy may take as a request. `withdrawn`: what
    asked for the work was taken back (unassigned, cancelled): it stops, whatever the text. `gone`: the bot was taken
    out of the whole workspace (`conversation.team`): all that was asked for there stops. `corrected`: what was said
    before in `message_id` now reads so. `rated`: how somebody liked the last word, `good` or `bad`."""
    corrects: str = ""
    """The semantic key of what was said before, where this corrects it."""
    pressed: bool = False
    """A button of ours said this. What it asks for may be settled by now: then nothing comes of it."""
    standing: Standing = ""
    """What sets its author apart from the members of the place; a policy has to name whom it means by more than `*`."""
    shared: bool = False
    """Somebody outside of the organization reads along: a policy has to name such a place."""
    note: str = ""
    """The channel's own note, of what it has still to ask for."""
    partial: bool = False
    """The channel has more to ask of its service (`Channel.complete`) before this can be dealt with."""
    title: str = ""
    """A title that the request has of its own (a ticket's): then the text is a request, whatever single word it is."""
    context: str = ""
    """What others wrote around it: data for the agent, and labelled so."""
    pictures: tuple[Picture, ...] = ()
    """For an agent that can see; `context` names them too."""
    guidance: str = ""
    """Rules that the owners of the place set for agents."""
    topics: tuple[str, ...] = ()
    """Further names for where it came from, as a policy names places: `linear:label:backend`."""
    suggested: Suggestion | None = None
    item: str = ""
    """The ticket that this is about, by name: `ENG-12`. There is one errand at a time on each."""
    branch: str = ""
    """The branch that the place has in mind for the work."""
    priority: int = Field(default=0, ge=0, le=4)
    """1 is the most urgent, 4 the least; 0 says nothing."""
    waits_for: tuple[str, ...] = ()
    """What must be done before, by name: `ENG-12`."""


class StepState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Step(_Value):
    title: str
    state: StepState


class Card(_Value):
    """The one message of a run that is edited in place."""

    kind: Literal["card"] = "card"
    task: str
    title: str
    repo: str
    repo_reason: str
    agent: str
    state: str
    """A word for people: queued, starting, working, publishing, done, failed, stopped."""
    live: bool
    """False once the run has ended: no Stop button."""
    waits: bool = False
    """For somebody's answer."""
    steps: tuple[Step, ...] = ()
    doing: str = ""
    elapsed_seconds: int | None = None
    cost_usd: float | None = None
    url: str = ""
    """The task's page."""
    pull_url: str = ""


class Notice(_Value):
    """One or a few sentences."""

    kind: Literal["notice"] = "notice"
    text: str
    error: bool = False


class Option(_Value):
    """One answer to a question."""

    label: str
    words: str
    """What choosing it says: whoever writes this has chosen it, and pressing it is an `Inbound` with this text."""


class Question(_Value):
    """A choice put to people; answered by words, or by pressing what stands for them."""

    kind: Literal["question"] = "question"
    text: str
    options: tuple[Option, ...]
    to: str = ""
    """Whose answer counts, as a policy names people; anybody's if empty."""
    calls: str = ""
    """Who is called to it where anybody's answer counts, as a policy names people."""
    chosen: str = ""
    """What was answered: nothing can be chosen any more."""


class Check(_Value):
    command: str
    passed: bool


class FileChange(_Value):
    path: str
    added: int | None
    """Lines; None where it is no text."""
    removed: int | None


class Final(_Value):
    """How a run ended: exactly one per round of a task."""

    kind: Literal["final"] = "final"
    outcome: Literal["succeeded", "unchanged", "failed", "stopped"]
    text: str
    """What changed, or why it failed."""
    tail: str = ""
    """Last lines of output of what failed; untrusted."""
    pull_url: str = ""
    pull_label: str = ""
    files: int = 0
    added: int = 0
    removed: int = 0
    changed: tuple[FileChange, ...] = ()
    """The files, those with most changes first; `files` says how many there are."""
    checks: tuple[Check, ...] = ()
    elapsed_seconds: int = 0
    cost_usd: float | None = None
    asked_by: str = ""
    """The name of who asked."""
    person: str = ""
    """Who asked, as a policy names people."""
    url: str = ""
    """The task's page."""
    review_state: str = ""
    """Where the ticket goes now that there is something to review, if it came from one."""


class Opening(_Value):
    """What a conversation of ours begins with: about a task that was asked for elsewhere."""

    title: str
    text: str
    """Who asked, and where."""
    url: str
    """The task's page: by it we know the conversation as our own."""
    link: str = ""
    """To where it was asked for."""


Reply = Annotated[Card | Notice | Question | Final, Field(discriminator="kind")]


class Mark(StrEnum):
    """A reaction on the person's message: 👀 🏁 ❌ 🛑."""

    SEEN = "seen"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


Receive = Callable[[Inbound], Awaitable[bool]]
"""Store an Inbound and return after COMMIT: True if new, False if already known. Raises if it could not be stored."""


class Channel(Protocol):
    """A place where people talk. Errors of every method: `IntegrationError`'s leaves, nothing else."""

    @property
    def name(self) -> str:
        """The word before the colon in conversations and people."""

    @property
    def edit_seconds(self) -> float:
        """How long a message stands before it is edited again: what readers and rate limits bear."""

    @property
    def silence_seconds(self) -> float:
        """How long live work may go without a sign before its card is shown again."""

    @property
    def connected(self) -> bool | None:
        """Whether what is said there reaches us: our connection is up, our credential taken. None if nothing tells."""

    async def complete(self, inbound: Inbound) -> Inbound:
        """A `partial` delivery with what it left out, no longer partial; it may give a first sign of life.

        Called outside of transactions, before anything is decided. Safe twice. Whoever calls it goes on without after
        some tries.
        """

    async def open(self, where: Conversation, opening: Opening, *, key: str) -> Conversation:
        """Begin a conversation of ours in a place, and say where it is.

        `where.thread` names a thing to begin it on (`ENG-12`), or is empty. Safe twice with the same key.
        `RejectedError` where that can't be.
        """

    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        """Post a reply and return the message's id.

        Not safe twice: after an unknown outcome (`UnavailableError`) call `find` with the same key first.
        """

    async def edit(self, conversation: Conversation, message_id: str, reply: Reply) -> None:
        """Replace a message. Safe twice. `RejectedError` if the message is gone.

        Only a `Card` changes, and a `Question` when it was answered; a place that keeps what was said leaves other
        messages as they are.
        """

    async def mark(
        self, conversation: Conversation, message_id: str, mark: Mark, *, present: bool
    ) -> None:
        """Add or remove a reaction, or what stands for one: SEEN on a ticket moves it to started. Safe twice."""

    async def find(self, conversation: Conversation, *, key: str, since: datetime) -> str | None:
        """The id of the message that `post` made with this key at or after `since`, if any."""

    async def name_of(self, person: str) -> str:
        """The name by which people know somebody (`slack:U0DANA`)."""

    def routes(self, receive: Receive) -> "APIRouter | None":
        """HTTP routes for deliveries, or None. They answer 2xx only after `receive` returned."""

    async def listen(self, receive: Receive) -> None:
        """Receive without an inbound port, until cancelled. Returns at once where there is nothing to do."""

    async def check(self) -> list[str]:
        """Problems that `errand doctor` should name, each with what to do; empty if all is well."""

    async def close(self) -> None:
        """Release connections. Safe twice."""
