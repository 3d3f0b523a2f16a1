"""Column types that read back the same from SQLite and PostgreSQL."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator
from typing_extensions import override

from bot.states import TaskState
from integrations.channel import Conversation


def canonical(value: object) -> str:
    """JSON in its one spelling, so that equal values are equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def clean(text: str) -> str:
    """Text that every database takes: PostgreSQL knows no NUL, and neither knows half a surrogate pair."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class Words(TypeDecorator[str]):
    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


class UtcTime(TypeDecorator[datetime]):
    """Aware on the way in, UTC in the table, aware UTC on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(value)
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(TypeDecorator[Any]):
    """JSON as canonical text: two payloads can be compared in SQL."""

    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else canonical(value)

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class StateText(TypeDecorator[TaskState]):
    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: TaskState | None, dialect: Dialect) -> str | None:
        return None if value is None else TaskState(value).value

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> TaskState | None:
        return None if value is None else TaskState(value)


class ConversationText(TypeDecorator[Conversation]):
    """A conversation in one column; equal conversations are equal texts.

    Defaults are left out, so a field that is added later changes no stored text.
    """

    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: Conversation | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return canonical(value.model_dump(mode="json", exclude_defaults=True))

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> Conversation | None:
        return None if value is None else Conversation.model_validate_json(value)
