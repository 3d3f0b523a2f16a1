"""What is said of a connection: to the log, and to the client that is turned away."""

from dataclasses import dataclass

from policies.egress import Allow
from runner.inside.httphead import response
from runner.inside.incoming import Incoming
from runner.inside.splice import Flow, farewell
from runner.inside.wire import Transcript

BAD_GATEWAY = "502 Bad Gateway"
FORBIDDEN = "403 Forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """What the acceptor says about a socket: the name behind the address that was dialled, and the port."""

    host: str
    port: int


class Audit:
    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript

    def allow(self, allow: Allow, address: str) -> None:
        self._transcript.write(
            "decision",
            verdict="allow",
            host=allow.host,
            port=allow.port,
            rule=allow.rule,
            reason="",
            address=address,
        )

    def deny(self, dialled: Dialled, reason: str, *, rule: str = "") -> None:
        self._transcript.write(
            "decision",
            verdict="deny",
            host=dialled.host,
            port=dialled.port,
            rule=rule,
            reason=reason,
            address="",
        )

    def noise(self, text: str) -> None:
        self._transcript.write("noise", text=text)

    def closed(
        self, allow: Allow, *, flow: Flow | None = None, address: str = "", reason: str = ""
    ) -> None:
        self._transcript.write(
            "closed",
            host=allow.host,
            port=allow.port,
            sent=flow.sent if flow else 0,
            received=flow.received if flow else 0,
            address=address,
            reason=reason,
        )


def refuse(incoming: Incoming, status: str, dialled: Dialled, reason: str) -> None:
    told = reason.encode("ascii", "replace").decode("ascii")
    denied = ("x-errand-denied", f"host={dialled.host}; reason={told}")
    body = f"Errand's gateway did not let this request through: {reason}\n"
    farewell(incoming.sock, response(status, headers=[denied], body=body))
