"""One connection of the agent through the gateway: understand its first bytes, decide, dial, copy."""

import contextlib
import socket
from collections.abc import Sequence
from functools import partial

from policies.connections import DOMAIN, TcpAccess
from policies.egress import Allow, tunnel
from runner.inside.audit import TIMED_OUT, Dialled, refuse
from runner.inside.broker import HOST as BROKER_HOST
from runner.inside.broker import Broker
from runner.inside.connections import ConnectionEndpoint
from runner.inside.errors import BodyError, EgressDeniedError, HeadError, HelloError
from runner.inside.exchange import Exchange, Means
from runner.inside.githttp import HOST as GIT_HOST
from runner.inside.githttp import GitEndpoint
from runner.inside.httphead import Head
from runner.inside.incoming import Incoming
from runner.inside.route import checked, connect
from runner.inside.sni import ACCESS_DENIED
from runner.inside.splice import Flow, farewell
from runner.inside.tls import Disguise, problem

_HTTP_PORT = 80
_TUNNEL_UPLOAD_BYTES = 1024**3
"""To a server that is no web server, such as a database."""


class Passage:
    def __init__(
        self,
        *,
        means: Means,
        disguise: Disguise,
        git: GitEndpoint,
        endpoint: ConnectionEndpoint,
        broker: Broker,
    ) -> None:
        self._means = means
        self._audit = means.audit
        self._disguise = disguise
        self._git = git
        self._endpoint = endpoint
        self._broker = broker

    def serve(self, client: socket.socket, dialled: Dialled) -> None:
        """Never raises for what a client or a server does. Takes the socket over, and closes it."""
        with client, contextlib.suppress(OSError, BodyError):
            incoming = Incoming(client, idle_seconds=self._means.idle_seconds)
            if dialled == Dialled(host=GIT_HOST, port=_HTTP_PORT):
                self._serve_git(incoming, dialled)
            elif dialled == Dialled(host=BROKER_HOST, port=_HTTP_PORT):
                self._serve_broker(incoming, dialled)
            elif access := self._endpoint.tunnel(dialled):
                self._serve_tcp(incoming, dialled, access)
            elif _is_ours(dialled):
                self._serve_connection(incoming, dialled)
            elif dialled.port not in self._means.rules().ports:
                self._audit.deny(dialled, f"port {dialled.port} is not open to any host")
            else:
                self._serve_any(incoming, dialled)

    def _serve_git(self, incoming: Incoming, dialled: Dialled) -> None:
        head = self._head(incoming, dialled)
        if head is not None:
            self._git.serve(incoming, head)

    def _serve_broker(self, incoming: Incoming, dialled: Dialled) -> None:
        head = self._head(incoming, dialled)
        if head is not None:
            self._broker.serve(incoming, head)

    def _serve_connection(self, incoming: Incoming, dialled: Dialled) -> None:
        head = self._head(incoming, dialled)
        if head is not None:
            self._endpoint.serve(incoming, head, dialled)

    def _serve_tcp(self, incoming: Incoming, dialled: Dialled, access: TcpAccess) -> None:
        allow = Allow(
            host=access.host,
            port=access.port,
            mode="splice",
            rule=access.rule,
            private=access.private,
            upload=_TUNNEL_UPLOAD_BYTES,
        )
        try:
            addresses = checked(allow, resolve=self._means.resolve)
        except EgressDeniedError as exc:
            self._audit.deny(dialled, exc.reason, rule=exc.rule)
            return
        self._splice(incoming.sock, allow, addresses)

    def _head(self, incoming: Incoming, dialled: Dialled) -> Head | None:
        """None when the connection has been answered and logged already, or nothing was said."""
        try:
            return incoming.head()
        except HeadError as exc:
            self._audit.deny(dialled, exc.reason)
            refuse(incoming, f"{exc.status} Refused", dialled, exc.reason)
        except TimeoutError as exc:
            self._audit.deny(dialled, str(exc))
            refuse(incoming, TIMED_OUT, dialled, str(exc))
        return None

    def _serve_any(self, incoming: Incoming, dialled: Dialled) -> None:
        try:
            tls = incoming.speaks_tls()
        except TimeoutError as exc:
            self._audit.deny(dialled, str(exc))
            return
        if tls:
            self._serve_tls(incoming, dialled)
        else:
            Exchange(incoming, dialled, scheme="http", means=self._means).run()

    def _serve_tls(self, incoming: Incoming, dialled: Dialled) -> None:
        """Pass it unread if a rule says so; else answer in the host's place, if only to say why not."""
        try:
            allow = self._tunnel(incoming, dialled)
            addresses = checked(allow, resolve=self._means.resolve) if allow else ()
        except (HelloError, EgressDeniedError, TimeoutError) as exc:
            self._audit.deny(dialled, str(exc), rule=getattr(exc, "rule", ""))
            farewell(incoming.sock, ACCESS_DENIED)
            return
        if allow:
            self._splice(incoming.sock, allow, addresses)
        else:
            self._inspect(incoming.sock, dialled)

    def _tunnel(self, incoming: Incoming, dialled: Dialled) -> Allow | None:
        """The hello must name the host that was looked up, whoever is going to answer it."""
        hello = incoming.hello()
        if not dialled.host:
            raise EgressDeniedError("the address was dialled without looking up a name")
        if hello.host != dialled.host:
            raise EgressDeniedError(f"the connection asks for {hello.host}, another host")
        allow = tunnel(self._means.rules(), host=dialled.host, port=dialled.port)
        if allow and hello.encrypted:
            raise EgressDeniedError("an encrypted ClientHello is not let through", rule=allow.rule)
        return allow

    def _inspect(self, client: socket.socket, dialled: Dialled) -> None:
        try:
            tls = self._disguise.accept(client, dialled.host)
        except OSError as exc:
            reason = f"the client ended the TLS handshake with the gateway: {problem(exc)}"
            self._audit.deny(dialled, reason)
            return
        with tls:
            incoming = Incoming(tls, idle_seconds=self._means.idle_seconds)
            Exchange(incoming, dialled, scheme="https", means=self._means).run()

    def _splice(self, client: socket.socket, allow: Allow, addresses: Sequence[str]) -> None:
        """Dial what was checked, copy, and write down how much went through."""
        means = self._means
        self._audit.allow(allow, addresses[0])
        try:
            address, server = connect(addresses, allow.port, dial=means.dial)
        except OSError as exc:
            self._audit.closed(allow, reason=f"no connection: {exc}")
            return
        with server:
            flow = Flow(
                client,
                server,
                idle_seconds=means.idle_seconds,
                may_send=partial(means.budget.send, allow),
                may_receive=partial(means.budget.receive, allow),
            )
            try:
                flow.both_ways()
            finally:
                reason = flow.refused.reason if flow.refused else ""
                self._audit.closed(allow, flow=flow, address=address, reason=reason)
                if reason:
                    dialled = Dialled(host=allow.host, port=allow.port)
                    self._audit.deny(dialled, reason, rule=allow.rule)


def _is_ours(dialled: Dialled) -> bool:
    """A name that only connections have: NAME.internal, or NAME.llm.internal."""
    name = dialled.host.removesuffix(f".{DOMAIN}").removesuffix(".llm")
    ours = dialled.host.endswith(f".{DOMAIN}") and "." not in name
    return ours and dialled.port == _HTTP_PORT
