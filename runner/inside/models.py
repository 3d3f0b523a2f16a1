"""http://NAME.llm.internal: one request to a model server, with our credential in place of the client's.

The body is read whole before anything is dialled, because it says which model is asked; the response streams.
"""

import threading
from collections.abc import Callable, Mapping

from policies.connections import STRIPPED, LlmAccess, body_refusal, request_refusal
from policies.egress import Allow
from runner.inside.audit import BAD_GATEWAY, FORBIDDEN, Audit, Dialled, refuse
from runner.inside.errors import BodyError, EgressDeniedError, UpstreamError
from runner.inside.httphead import Head, rewritten
from runner.inside.incoming import Incoming
from runner.inside.route import Dial, Resolve, checked, connect
from runner.inside.splice import Flow
from runner.inside.upstream import response_head, secured

BODY_BYTES = 32 * 1024 * 1024
# Bodies in memory at once: a gateway has less than a gibibyte.
_BODIES = 4
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DROPPED = STRIPPED | {"content-length", "transfer-encoding", "expect", "accept-encoding"}
_TOO_LARGE = f"the body is larger than {BODY_BYTES} bytes"


class ModelEndpoint:
    def __init__(
        self,
        *,
        connections: Callable[[], Mapping[str, LlmAccess]],
        audit: Audit,
        resolve: Resolve,
        dial: Dial,
        idle_seconds: float,
    ) -> None:
        self._connections = connections
        self._audit = audit
        self._resolve = resolve
        self._dial = dial
        self._idle_seconds = idle_seconds
        self._bodies = threading.BoundedSemaphore(_BODIES)

    def serve(self, incoming: Incoming, head: Head, dialled: Dialled) -> None:
        """Answer one request. Raises OSError, BodyError."""
        access = self._connections().get(dialled.host)
        if access is None or head.host != dialled.host:
            self._deny(incoming, dialled, "this repository has no such connection")
            return
        try:
            self._serve(incoming, head, access)
        except (EgressDeniedError, BodyError) as exc:
            self._deny(incoming, dialled, str(exc), rule=access.rule)

    def _deny(self, incoming: Incoming, dialled: Dialled, reason: str, *, rule: str = "") -> None:
        self._audit.deny(dialled, reason, rule=rule)
        refuse(incoming, FORBIDDEN, dialled, reason)

    def _serve(self, incoming: Incoming, head: Head, access: LlmAccess) -> None:
        if reason := request_refusal(access, method=head.method, target=head.target):
            raise EgressDeniedError(reason)
        if head.value(b"content-encoding") not in {"", "identity"}:
            raise EgressDeniedError("the body must not be compressed")
        with self._bodies:
            body = _body(incoming, head)
            if reason := body_refusal(access, body):
                raise EgressDeniedError(reason)
        allow = _allow(access)
        addresses = checked(allow, resolve=self._resolve)
        self._audit.allow(allow, addresses[0])
        try:
            address, server = connect(addresses, allow.port, dial=self._dial)
            server = secured(server, access.upstream)
        except OSError as exc:
            self._audit.closed(allow, reason=f"no connection: {exc}")
            _fail(incoming, allow, "the model server does not answer")
            return
        with server:
            flow = Flow(incoming.sock, server, idle_seconds=self._idle_seconds)
            try:
                flow.send(_request(head, access, len(body)) + body)
                flow.answer(response_head(server, secret=access.secret))
                flow.downward()
            except UpstreamError as exc:
                _fail(incoming, allow, str(exc))
            finally:
                flow.abort()
                self._audit.closed(allow, flow=flow, address=address)


def _body(incoming: Incoming, head: Head) -> bytes:
    """Raises EgressDeniedError for one that is too large; BodyError, OSError."""
    if (head.length or 0) > BODY_BYTES:
        raise EgressDeniedError(_TOO_LARGE)
    if head.expects_continue:
        incoming.sock.sendall(_CONTINUE)
    body = bytearray()
    for data in incoming.body(head.length):
        body += data
        if len(body) > BODY_BYTES:
            raise EgressDeniedError(_TOO_LARGE)
    return bytes(body)


def _allow(access: LlmAccess) -> Allow:
    upstream = access.upstream
    return Allow(
        host=upstream.host,
        port=upstream.port,
        scheme=upstream.scheme,
        rule=access.rule,
        private=access.private,
    )


def _request(head: Head, access: LlmAccess, length: int) -> bytes:
    upstream = access.upstream
    added = {
        "host": upstream.authority,
        "content-length": str(length),
        # What is compressed could not be read here.
        "accept-encoding": "identity",
        access.header: access.secret,
    }
    return rewritten(head, target=upstream.prefix + head.target, dropped=_DROPPED, added=added)


def _fail(incoming: Incoming, allow: Allow, reason: str) -> None:
    refuse(incoming, BAD_GATEWAY, Dialled(host=allow.host, port=allow.port), reason)
