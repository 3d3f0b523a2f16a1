"""Slack's interactive payloads, as far as they are read. Slack adds fields without notice."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from integrations.errors import MalformedPayloadError
from integrations.invalid import invalid_fields

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Ts = Annotated[str, Field(pattern=r"^[0-9]{1,16}\.[0-9]{1,16}$")]
Trigger = Annotated[str, Field(min_length=1, max_length=300)]
R = TypeVar("R", bound="Read")


class Read(BaseModel):
    """Only what is read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Named(Read):
    id: Id


class User(Named):
    team_id: Id | None = None


class Choice(Read):
    value: str = ""


class Action(Read):
    action_id: str
    action_ts: str = ""
    value: str | None = None
    selected_option: Choice | None = None

    @property
    def said(self) -> str:
        return (self.selected_option.value if self.selected_option else self.value) or ""


class Container(Read):
    type: str = ""
    message_ts: Ts | None = None
    channel_id: Id | None = None
    thread_ts: Ts | None = None
    is_ephemeral: bool = False


class Shown(Read):
    """A message that a payload is about."""

    ts: Ts
    thread_ts: Ts | None = None
    text: str = ""
    user: str | None = None


class Typed(Read):
    """What stands in one field of a form."""

    value: str | None = None
    selected_option: Choice | None = None
    selected_conversation: str | None = None

    @property
    def text(self) -> str:
        chosen = self.selected_option.value if self.selected_option else ""
        return self.value or chosen or self.selected_conversation or ""


class State(Read):
    values: dict[str, dict[str, Typed]] = {}

    def text(self, field: str) -> str:
        return next((typed.text for typed in self.values.get(field, {}).values()), "")


class View(Read):
    id: Id
    callback_id: str = ""
    private_metadata: str = ""
    state: State = State()


class Interaction(Read):
    """What a click, a shortcut and a form have in common."""

    type: str
    user: User
    team: Named | None = None
    trigger_id: Trigger | None = None
    channel: Named | None = None

    @property
    def team_id(self) -> str:
        """The workspace in which it happened; the person's own where Slack does not say."""
        return (self.team.id if self.team else None) or self.user.team_id or ""


class Click(Interaction):
    container: Container = Container()
    message: Shown | None = None
    view: View | None = None
    actions: tuple[Action, ...] = Field(min_length=1)


class MessageShortcut(Interaction):
    callback_id: str
    trigger_id: Trigger
    channel: Named
    message: Shown


class GlobalShortcut(Interaction):
    callback_id: str
    trigger_id: Trigger


class Submission(Interaction):
    view: View


class Suggestion(Interaction):
    action_id: str
    value: str = ""
    view: View | None = None


class Command(Read):
    command: str
    text: str = ""
    user_id: Id
    team_id: Id
    channel_id: Id
    channel_name: str = ""
    trigger_id: Trigger


def read(kind: type[R], payload: Mapping[str, object]) -> R:
    """Raises MalformedPayloadError, which names the fields and repeats nothing of them."""
    try:
        return kind.model_validate(payload)
    except ValidationError as error:
        fields = invalid_fields(error)
        raise MalformedPayloadError(f"Slack payload without a valid {fields}") from None
