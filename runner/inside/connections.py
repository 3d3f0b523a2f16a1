"""http://NAME.llm.internal and http://NAME.internal: one request, with our credential in place of the client's.

A body is read whole before anything is dialled, because it may say what is asked; the answer streams. Calls of models
are counted on their way, and end where the budget does.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from policies.bodies import body_refusal, model_of
from policies.connections import (
    STRIPPED,
    Connections,
    HttpAccess,
    LlmAccess,
    TcpAccess,
    http_refusal,
)
from policies.dialects import Asked, Form, asked_for, refusal_body
from policies.egress import Allow
from policies.strictjson import read_object
from runner.inside.answer import Answer
from runner.inside.audit import BAD_GATEWAY, FORBIDDEN, Audit, Dialled, refuse
from runner.inside.errors import BodyError, EgressDeniedError, UpstreamError
from runner.inside.httphead import Head, response, rewritten
from runner.inside.incoming import Incoming
from runner.inside.ledger import Call, Ledger
from runner.inside.meter import Meter
from runner.inside.redact import Redactor
from runner.inside.route import Dial, Resolve, checked, connect
from runner.inside.splice import Flow, farewell
from runner.inside.upstream import secured

BODY_BYTES = 32 * 1024 * 1024
CALLS = 8
"""Requests of a run that may be under way at a time, to all its connections together."""
_PLACE_SECONDS = 60.0
# Bodies in memory at once: a gateway has less than a gibibyte.
_BODIES = 4
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DROPPED = STRIPPED | {"content-length", "transfer-encoding", "expect", "accept-encoding"}
_TOO_LARGE = f"the body is larger than {BODY_BYTES} bytes"
_BUSY = f"{CALLS} requests of this task are under way already: try again later"
_OK = 200
EVENT_STREAM = b"text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    head: Head
    access: LlmAccess | HttpAccess
    target: str
    body: bytes
    call: Call | None = None
    """Of a model, if what it uses is to be counted."""
    form: Form | None = None


class ConnectionEndpoint:
    def __init__(
        self,
        *,
        connections: Callable[[], Connections],
        ledger: Ledger,
        audit: Audit,
        resolve: Resolve,
        dial: Dial,
        idle_seconds: float,
    ) -> None:
        self._connections = connections
        self._ledger = ledger
        self._audit = audit
        self._resolve = resolve
        self._dial = dial
        self._idle_seconds = idle_seconds
        self._bodies = threading.BoundedSemaphore(_BODIES)
        self._places = threading.BoundedSemaphore(CALLS)

    def tunnel(self, dialled: Dialled) -> TcpAccess | None:
        """The connection that is no HTTP, if this is one."""
        return self._connections().tunnels.get((dialled.host, dialled.port))

    def serve(self, incoming: Incoming, head: Head, dialled: Dialled) -> None:
        """Answer one request. Raises OSError, BodyError."""
        access = self._connections().calls.get(dialled.host)
        if access is None or head.host != dialled.host:
            self._refuse(incoming, dialled, "this repository has no such connection")
            return
        try:
            with self._place(incoming, dialled, access) as free:
                if free:
                    self._pass(incoming, self._understood(incoming, head, access))
        except (EgressDeniedError, BodyError) as exc:
            self._refuse(incoming, dialled, str(exc), access=access)

    @contextlib.contextmanager
    def _place(
        self, incoming: Incoming, dialled: Dialled, access: LlmAccess | HttpAccess
    ) -> Iterator[bool]:
        free = self._places.acquire(timeout=_PLACE_SECONDS)
        try:
            if not free:
                self._refuse(incoming, dialled, _BUSY, access=access, status=429)
            yield free
        finally:
            if free:
                self._places.release()

    def _refuse(
        self,
        incoming: Incoming,
        dialled: Dialled,
        reason: str,
        *,
        access: LlmAccess | HttpAccess | None = None,
        status: int = 403,
    ) -> None:
        """A model's client is told in the words of its provider, so that it shows them."""
        self._audit.deny(dialled, reason, rule=access.rule if access else "")
        line = FORBIDDEN if status == 403 else "429 Too Many Requests"  # noqa: PLR2004 - the only other one
        if not isinstance(access, LlmAccess):
            refuse(incoming, line, dialled, reason)
            return
        error = refusal_body(access.dialect, status=status, message=f"Errand: {reason}")
        whole = response(line, body=json.dumps(error), content_type="application/json")
        farewell(incoming.sock, whole)

    def _understood(
        self, incoming: Incoming, head: Head, access: LlmAccess | HttpAccess
    ) -> _Request:
        """The request as it may go on. Raises EgressDeniedError; BodyError, OSError."""
        if head.value(b"content-encoding") not in {"", "identity"}:
            raise EgressDeniedError("the body must not be compressed")
        if isinstance(access, HttpAccess):
            if reason := http_refusal(access, method=head.method, target=head.target):
                raise EgressDeniedError(reason)
            body = self._body(incoming, head)
            return _Request(head=head, access=access, target=head.target, body=body)
        asked = asked_for(access.dialect, method=head.method, target=head.target)
        if isinstance(asked, str):
            raise EgressDeniedError(f"the connection {access.name}: {asked}")
        if asked.kind == "list":
            return _Request(head=head, access=access, target=asked.target, body=b"")
        return self._model_request(incoming, head, access, asked)

    def _model_request(
        self, incoming: Incoming, head: Head, access: LlmAccess, asked: Asked
    ) -> _Request:
        body = self._body(incoming, head)
        if reason := body_refusal(asked, body, models=access.models, allow=access.allow):
            raise EgressDeniedError(f"the connection {access.name}: {reason}")
        call = None
        if asked.kind == "generate":
            if reason := self._ledger.refusal():
                raise EgressDeniedError(reason)
            call = self._ledger.open(access, model_of(asked, read_object(body) or {}) or "")
        return _Request(
            head=head, access=access, target=asked.target, body=body, call=call, form=asked.form
        )

    def _body(self, incoming: Incoming, head: Head) -> bytes:
        """Raises EgressDeniedError for one that is too large; BodyError, OSError."""
        if (head.length or 0) > BODY_BYTES:
            raise EgressDeniedError(_TOO_LARGE)
        with self._bodies:
            if head.expects_continue:
                incoming.sock.sendall(_CONTINUE)
            body = bytearray()
            for data in incoming.body(head.length):
                body += data
                if len(body) > BODY_BYTES:
                    raise EgressDeniedError(_TOO_LARGE)
            return bytes(body)

    def _pass(self, incoming: Incoming, request: _Request) -> None:
        access = request.access
        allow = _allow(access)
        addresses = checked(allow, resolve=self._resolve)
        asked = request.head
        self._audit.allow(allow, addresses[0], method=asked.method, path=asked.path)
        try:
            address, server = connect(addresses, allow.port, dial=self._dial)
            server = secured(server, access.upstream)
        except OSError as exc:
            self._audit.closed(allow, reason=f"no connection: {exc}")
            _fail(incoming, allow, "the server does not answer")
            return
        with server:
            flow = Flow(incoming.sock, server, idle_seconds=self._idle_seconds)
            try:
                flow.send(_sent(request) + request.body)
                secrets = [form.encode() for form in access.credential.forms]
                answer = Answer(server, method=request.head.method, secrets=secrets)
            except UpstreamError as exc:
                _fail(incoming, allow, str(exc))
            else:
                self._stream(flow, request, answer, Redactor(secrets))
            finally:
                flow.abort()
                self._audit.closed(allow, flow=flow, address=address)

    def _stream(self, flow: Flow, request: _Request, answer: Answer, redactor: Redactor) -> None:
        """Pass the answer on. What it says of its cost is booked before the client can act on it."""
        flow.answer(answer.head())
        counted = self._counted(request, answer)
        streams = answer.type == EVENT_STREAM
        waiting = b""
        try:
            for data in answer.body():
                counted.feed(data)
                # An answer that is no stream is counted at its end, and its last part waits for that.
                now, waiting = waiting, redactor.feed(data)
                if streams:
                    now, waiting = waiting, b""
                flow.answer(answer.framed(now))
            counted.end()
            flow.answer(answer.framed(waiting + redactor.end()) + answer.last())
        except UpstreamError as exc:
            # The client notices too: what was announced does not come.
            self._audit.noise(f"{request.access.rule}: {exc}")
        finally:
            counted.end()

    def _counted(self, request: _Request, answer: Answer) -> "_Counted":
        if request.call is None or request.form is None or answer.status != _OK:
            return _Counted(None, None, self._ledger)
        stream = answer.type == EVENT_STREAM
        meter = Meter(request.form, stream=stream, asked=len(request.body))
        return _Counted(request.call, meter, self._ledger)


class _Counted:
    """Books what a call used: as soon as its provider has said so, and at the end."""

    def __init__(self, call: Call | None, meter: Meter | None, ledger: Ledger) -> None:
        self._call = call
        self._meter = meter
        self._ledger = ledger

    def feed(self, data: bytes) -> None:
        if self._meter is not None:
            self._meter.feed(data)
            if self._meter.final:
                self._book(self._meter)

    def end(self) -> None:
        if self._meter is not None:
            self._meter.end()
            self._book(self._meter)

    def _book(self, meter: Meter) -> None:
        if self._call is not None:
            self._ledger.book(self._call, meter.tokens)


def _allow(access: LlmAccess | HttpAccess) -> Allow:
    upstream = access.upstream
    return Allow(
        host=upstream.host,
        port=upstream.port,
        scheme=upstream.scheme,
        rule=access.rule,
        private=access.private,
    )


def _sent(request: _Request) -> bytes:
    upstream, held = request.access.upstream, request.access.credential
    added: Mapping[str, str] = {
        "host": upstream.authority,
        **({"content-length": str(len(request.body))} if _has_body(request) else {}),
        # What was judged was read as this, whatever the client calls it.
        **({"content-type": "application/json"} if request.form and request.body else {}),
        # What is compressed could not be read here.
        "accept-encoding": "identity",
        held.header: held.value,
    }
    target = upstream.prefix + request.target
    return rewritten(request.head, target=target, dropped=_DROPPED, added=added)


def _has_body(request: _Request) -> bool:
    return bool(request.body) or request.head.method in {"POST", "PUT", "PATCH"}


def _fail(incoming: Incoming, allow: Allow, reason: str) -> None:
    refuse(incoming, BAD_GATEWAY, Dialled(host=allow.host, port=allow.port), reason)
