"""A run's events as lines for people: pure."""

from collections.abc import Iterator, Sequence

from integrations.wording import clean
from runner.protocol import EventRecord, ToolCall

WIDTH = 120


def narrated(records: Sequence[EventRecord]) -> Iterator[str]:
    """A line for each event; of what a tool says while it runs, the last only."""
    for record, following in zip(records, [*records[1:], None], strict=True):
        if following is None or not _continued(record, following):
            yield _line(record)


def _continued(record: EventRecord, following: EventRecord) -> bool:
    one, other = record.event, following.event
    if not isinstance(one, ToolCall) or not isinstance(other, ToolCall):
        return False
    return (record.run, one.id, one.status) == (following.run, other.id, other.status)


def _line(record: EventRecord) -> str:
    values = record.event.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)
    facts = (f"{name}={_short(value)}" for name, value in values.items())
    return f"{record.at:%Y-%m-%d %H:%M:%S} run {record.run.fence} {record.event.kind}  {' '.join(facts)}"


def _short(value: object) -> str:
    """The last line of a text that has many, for there is the reason."""
    lines = clean(str(value)).strip().splitlines() or [""]
    text = lines[0] if len(lines) == 1 else f"… {lines[-1]}"
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
