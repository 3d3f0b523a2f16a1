"""One connection of the agent through the gateway: understand its first bytes, decide, dial, copy."""

import contextlib
import socket
from collections.abc import Callable, Sequence
from functools import partial

from policies.connections import DOMAIN
from policies.egress import Allow, Deny, EgressRules, decide
from runner.inside.audit import BAD_GATEWAY, FORBIDDEN, Audit, Dialled, refuse
from runner.inside.broker import HOST as BROKER_HOST
from runner.inside.broker import Broker
from runner.inside.errors import BodyError, EgressDeniedError, HeadError, HelloError
from runner.inside.githttp import HOST as GIT_HOST
from runner.inside.githttp import GitEndpoint
from runner.inside.httphead import Head, forwarded
from runner.inside.incoming import Incoming
from runner.inside.models import ModelEndpoint
from runner.inside.route import Dial, Resolve, checked, connect
from runner.inside.sni import ACCESS_DENIED
from runner.inside.splice import IDLE_SECONDS, Flow, background, farewell

_HTTP_PORT = 80


class Passage:
    """Rules are asked for anew with every connection."""

    def __init__(  # noqa: PLR0913 - an endpoint each, and what dialling takes
        self,
        *,
        rules: Callable[[], EgressRules],
        git: GitEndpoint,
        models: ModelEndpoint,
        broker: Broker,
        audit: Audit,
        resolve: Resolve,
        dial: Dial,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._rules = rules
        self._git = git
        self._models = models
        self._broker = broker
        self._audit = audit
        self._resolve = resolve
        self._dial = dial
        self._idle_seconds = idle_seconds

    def serve(self, client: socket.socket, dialled: Dialled) -> None:
        """Never raises for what a client or a server does; the caller closes the socket."""
        incoming = Incoming(client, idle_seconds=self._idle_seconds)
        mode = self._rules().ports.get(dialled.port)
        with contextlib.suppress(OSError, BodyError):
            if dialled == Dialled(host=GIT_HOST, port=_HTTP_PORT):
                self._serve_git(incoming, dialled)
            elif dialled == Dialled(host=BROKER_HOST, port=_HTTP_PORT):
                self._serve_broker(incoming, dialled)
            elif dialled.host.endswith(f".{DOMAIN}") and dialled.port == _HTTP_PORT:
                self._serve_model(incoming, dialled)
            elif mode == "http":
                self._serve_http(incoming, dialled)
            elif mode == "splice":
                self._serve_tls(incoming, dialled)
            else:
                self._audit.deny(dialled, f"port {dialled.port} is not open to any host")

    def _serve_git(self, incoming: Incoming, dialled: Dialled) -> None:
        head = self._head(incoming, dialled)
        if head is not None:
            self._git.serve(incoming, head)

    def _serve_broker(self, incoming: Incoming, dialled: Dialled) -> None:
        head = self._head(incoming, dialled)
        if head is not None:
            self._broker.serve(incoming, head)

    def _serve_model(self, incoming: Incoming, dialled: Dialled) -> None:
        head = self._head(incoming, dialled)
        if head is not None:
            self._models.serve(incoming, head, dialled)

    def _serve_tls(self, incoming: Incoming, dialled: Dialled) -> None:
        try:
            hello, first = incoming.hello()
            allow = self._decide(dialled, scheme="https", named=hello.host)
            addresses = checked(allow, resolve=self._resolve)
        except (HelloError, EgressDeniedError, TimeoutError) as exc:
            self._audit.deny(dialled, str(exc), rule=getattr(exc, "rule", ""))
            farewell(incoming.sock, ACCESS_DENIED)
            return
        self._audit.allow(allow, addresses[0])
        self._through(incoming, allow, addresses, lambda flow: _tunnel(flow, first))

    def _serve_http(self, incoming: Incoming, dialled: Dialled) -> None:
        head = self._head(incoming, dialled)
        if head is None:
            return
        try:
            allow = self._decide(dialled, scheme="http", named=head.host)
            addresses = checked(allow, resolve=self._resolve)
        except EgressDeniedError as exc:
            self._audit.deny(dialled, exc.reason, rule=exc.rule)
            refuse(incoming, FORBIDDEN, dialled, exc.reason)
            return
        self._audit.allow(allow, addresses[0])
        self._through(
            incoming, allow, addresses, lambda flow: _exchange(flow, incoming=incoming, head=head)
        )

    def _head(self, incoming: Incoming, dialled: Dialled) -> Head | None:
        """None when the connection has been answered and logged already, or nothing was said."""
        try:
            return incoming.head()
        except HeadError as exc:
            self._audit.deny(dialled, exc.reason)
            refuse(incoming, f"{exc.status} Refused", dialled, exc.reason)
        except TimeoutError as exc:
            self._audit.deny(dialled, str(exc))
            refuse(incoming, "408 Request Timeout", dialled, str(exc))
        return None

    def _decide(self, dialled: Dialled, *, scheme: str, named: str) -> Allow:
        """`named` is what the connection's first bytes say: it must be the name that was looked up."""
        if not dialled.host:
            raise EgressDeniedError("the address was dialled without looking up a name")
        answer = decide(self._rules(), scheme=scheme, host=dialled.host, port=dialled.port)
        if isinstance(answer, Deny):
            raise EgressDeniedError(answer.reason)
        if named != answer.host:
            raise EgressDeniedError(f"the connection asks for {named}, another host")
        return answer

    def _through(
        self,
        incoming: Incoming,
        allow: Allow,
        addresses: Sequence[str],
        run: Callable[[Flow], None],
    ) -> None:
        """Dial what was checked, run, and write down how much went through."""
        try:
            address, server = connect(addresses, allow.port, dial=self._dial)
        except OSError as exc:
            self._audit.closed(allow, reason=f"no connection: {exc}")
            if allow.mode == "http":
                dialled = Dialled(host=allow.host, port=allow.port)
                refuse(incoming, BAD_GATEWAY, dialled, "the host does not answer")
            return
        with server:
            flow = Flow(incoming.sock, server, idle_seconds=self._idle_seconds)
            try:
                run(flow)
            finally:
                self._audit.closed(allow, flow=flow, address=address)


def _tunnel(flow: Flow, first: bytes) -> None:
    flow.send(first)
    flow.both_ways()


def _exchange(flow: Flow, *, incoming: Incoming, head: Head) -> None:
    """This request and its response, and nothing after them: the next request comes on a connection of its own."""
    flow.send(forwarded(head))
    upward = background(partial(_send_body, flow, incoming, head))
    flow.downward()
    flow.abort()
    upward.join()


def _send_body(flow: Flow, incoming: Incoming, head: Head) -> None:
    try:
        for data in incoming.body(head.length):
            flow.send(data if head.length is not None else b"%x\r\n%b\r\n" % (len(data), data))
        if head.length is None:
            flow.send(b"0\r\n\r\n")
    except (OSError, BodyError):
        flow.abort()
