"""What the three transcripts of a run tell: events for `serve`, live or read again from disk."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from runner.protocol import (
    Brokered,
    CommandSeen,
    Egress,
    Event,
    EventRecord,
    Remark,
    RunKey,
    Traffic,
    Usage,
)
from runner.sandbox import Line, Role
from runner.session import Session

POLICY_KEY = "policy"
SETTLE_KEY = "settle"
COMMAND_KEY = "cmd:"
"""Before the id of what a person wants."""
PATH_CHARACTERS = 300
ARGUMENTS = 20
ARGUMENT_CHARACTERS = 500


class Narration:
    """Feed it the lines of every container, each container's in order."""

    def __init__(self, run: RunKey, session: Session) -> None:
        self.session = session
        self.guarded = asyncio.Event()
        """Set once the gateway has its policy: it is not ready before."""
        self.accepted = asyncio.Event()
        """Set once the gate has accepted a push."""
        self.head = ""
        """The commit that the gate accepted last."""
        self.settled = asyncio.Event()
        """Set once the gateway has told all that it had to tell when it was asked."""
        self.exhausted = asyncio.Event()
        """Set once the gateway has refused a call of a model because the budget is used up."""
        self._run = run

    def feed(self, role: Role, line: Line) -> list[EventRecord]:
        if role == "agent":
            return self.session.feed(line)
        return self._gateway(line) if role == "gateway" else []

    def _gateway(self, line: Line) -> list[EventRecord]:
        fields = line.model_extra or {}
        self._heed(line.kind, fields)
        event = _event(line.kind, fields)
        return [] if event is None else [self._record(line, event)]

    def _heed(self, kind: str, fields: dict[str, Any]) -> None:
        """What others wait for."""
        match kind:
            case "ready":
                self.guarded.set()
            case "push" if fields.get("verdict") == "accept":
                self.head = str(fields["head"])
                self.accepted.set()
            case "received" if fields.get("key") == SETTLE_KEY:
                self.settled.set()
            case "budget":
                self.exhausted.set()
            case _:
                pass

    def _record(self, line: Line, event: Event) -> EventRecord:
        at = datetime.fromtimestamp(line.at, UTC)
        return EventRecord(run=self._run, source="gateway", seq=line.n, at=at, event=event)


def _event(kind: str, fields: dict[str, Any]) -> Event | None:
    if kind == "received":
        key = str(fields.get("key", ""))
        ours = key.startswith(COMMAND_KEY)
        return CommandSeen(command=key.removeprefix(COMMAND_KEY)) if ours else None
    told = _TOLD.get(kind)
    return None if told is None else told(fields)


def _usage(fields: dict[str, Any]) -> Usage:
    """A line holds totals, so that none can be counted twice."""
    written = ("cache_write", "cache_write_hour")
    return Usage(
        metered=True,
        input_tokens=int(fields["input"]) + sum(int(fields[name]) for name in written),
        output_tokens=int(fields["output"]),
        cached_tokens=int(fields["cache_read"]),
        cost_usd=fields["cost_usd"],
        counted_usd=float(fields["counted_usd"]),
    )


def _decision(fields: dict[str, Any]) -> Egress:
    return Egress(
        verdict="allow" if fields.get("verdict") == "allow" else "deny",
        host=str(fields.get("host", ""))[:255],
        port=int(fields.get("port", 0)),
        method=str(fields.get("method", "")),
        path=str(fields.get("path", ""))[:PATH_CHARACTERS],
        rule=str(fields.get("rule", "")),
        reason=str(fields.get("reason", "")),
        address=str(fields.get("address") or ""),
        count=int(fields.get("count", 1)),
    )


def _brokered(fields: dict[str, Any]) -> Brokered:
    return Brokered(
        tool=str(fields.get("tool", "")),
        argv=tuple(str(text)[:ARGUMENT_CHARACTERS] for text in fields.get("argv", ())[:ARGUMENTS]),
        verdict="allow" if fields.get("verdict") == "allow" else "deny",
        reason=str(fields.get("reason", "")),
    )


def _traffic(fields: dict[str, Any]) -> Traffic:
    return Traffic(
        host=str(fields.get("host", ""))[:255],
        port=int(fields.get("port", 0)),
        rule=str(fields.get("rule", "")),
        address=str(fields.get("address") or ""),
        requests=int(fields.get("requests", 0)),
        sent=int(fields.get("sent", 0)),
        received=int(fields.get("received", 0)),
        milliseconds=int(fields.get("ms", 0)),
        reason=str(fields.get("reason", "")),
    )


def _remark(fields: dict[str, Any]) -> Remark:
    return Remark(text=str(fields.get("text", "")))


_TOLD: Final[Mapping[str, Callable[[dict[str, Any]], Event]]] = {
    "usage": _usage,
    "decision": _decision,
    "brokered": _brokered,
    "closed": _traffic,
    "remark": _remark,
}
"""Lines of a gateway that are events, by their kind."""
