"""What the three transcripts of a run tell: events for `serve`, live or read again from disk."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from runner.protocol import (
    Brokered,
    CommandSeen,
    Egress,
    Event,
    EventRecord,
    Remark,
    RunKey,
    Traffic,
)
from runner.sandbox import Line, Role
from runner.session import Session

POLICY_KEY = "policy"
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
        self._run = run

    def feed(self, role: Role, line: Line) -> list[EventRecord]:
        if role == "agent":
            return self.session.feed(line)
        return self._gateway(line) if role == "gateway" else []

    def _gateway(self, line: Line) -> list[EventRecord]:
        fields = line.model_extra or {}
        match line.kind:
            case "ready":
                self.guarded.set()
            case "push" if fields.get("verdict") == "accept":
                self.head = str(fields["head"])
                self.accepted.set()
            case "decision":
                return [self._record(line, _decision(fields))]
            case "brokered":
                return [self._record(line, _brokered(fields))]
            case "closed":
                return [self._record(line, _traffic(fields))]
            case "remark":
                return [self._record(line, Remark(text=str(fields.get("text", ""))))]
            case "received" if str(fields.get("key", "")).startswith(COMMAND_KEY):
                seen = CommandSeen(command=str(fields["key"]).removeprefix(COMMAND_KEY))
                return [self._record(line, seen)]
            case _:
                pass
        return []

    def _record(self, line: Line, event: Event) -> EventRecord:
        at = datetime.fromtimestamp(line.at, UTC)
        return EventRecord(run=self._run, source="gateway", seq=line.n, at=at, event=event)


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
