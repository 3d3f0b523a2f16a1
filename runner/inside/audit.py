"""What is said of a connection: to the log, and to the client that is turned away."""

import threading
from dataclasses import dataclass
from typing import Protocol

from policies.egress import Allow
from runner.inside.httphead import response
from runner.inside.reader import Reader
from runner.inside.splice import farewell
from runner.inside.wire import Transcript

BAD_GATEWAY = "502 Bad Gateway"
BAD_REQUEST = "400 Bad Request"
FORBIDDEN = "403 Forbidden"
TIMED_OUT = "408 Request Timeout"
QUIET_SECONDS = 10.0
"""What is denied again within this time is counted, and told at its end."""
DENIALS = 50
"""So many different ones are told within that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """What the acceptor says about a socket: the name behind the address that was dialled, and the port."""

    host: str
    port: int


class Moved(Protocol):
    """What went through a connection."""

    sent: int
    received: int

    @property
    def milliseconds(self) -> int: ...


class Audit:
    """One line for each decision. Call `settle` every QUIET_SECONDS, and at the end."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._lock = threading.Lock()
        self._told: dict[tuple[str, int, str, str, str], int] = {}
        self._others = 0

    def allow(self, allow: Allow, address: str, *, method: str = "", path: str = "") -> None:
        self._transcript.write(
            "decision",
            verdict="allow",
            host=allow.host,
            port=allow.port,
            method=method,
            path=path,
            rule=allow.rule,
            reason="",
            address=address,
        )

    def deny(
        self, dialled: Dialled, reason: str, *, rule: str = "", method: str = "", path: str = ""
    ) -> None:
        key = (dialled.host, dialled.port, method, rule, reason)
        with self._lock:
            if key in self._told:
                self._told[key] += 1
                return
            if len(self._told) >= DENIALS:
                self._others += 1
                return
            self._told[key] = 0
        self._deny(key, path=path)

    def settle(self) -> None:
        """Tell what was counted only."""
        with self._lock:
            told, self._told = self._told, {}
            others, self._others = self._others, 0
        for key, count in told.items():
            if count:
                self._deny(key, count=count)
        if others:
            self._deny(("", 0, "", "", "other requests, too many to tell one by one"), count=others)

    def _deny(self, key: tuple[str, int, str, str, str], *, path: str = "", count: int = 1) -> None:
        host, port, method, rule, reason = key
        self._transcript.write(
            "decision",
            verdict="deny",
            host=host,
            port=port,
            method=method,
            path=path,
            rule=rule,
            reason=reason,
            address="",
            count=count,
        )

    def noise(self, text: str) -> None:
        self._transcript.write("noise", text=text)

    def closed(
        self,
        allow: Allow,
        *,
        flow: Moved | None = None,
        address: str = "",
        reason: str = "",
        requests: int = 0,
    ) -> None:
        self._transcript.write(
            "closed",
            host=allow.host,
            port=allow.port,
            rule=allow.rule,
            requests=requests,
            sent=flow.sent if flow else 0,
            received=flow.received if flow else 0,
            ms=flow.milliseconds if flow else 0,
            address=address,
            reason=reason,
        )

    def remark(self, text: str) -> None:
        """For the record of the run."""
        self._transcript.write("remark", text=text)


def refuse(incoming: Reader, status: str, dialled: Dialled, reason: str) -> None:
    told = reason.encode("ascii", "replace").decode("ascii")
    denied = ("x-errand-denied", f"host={dialled.host}; reason={told}")
    body = f"Errand's gateway did not let this request through: {reason}\n"
    farewell(incoming.sock, response(status, headers=[denied], body=body))
