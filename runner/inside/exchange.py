"""The requests of one client's connection, one after the other: each is judged, then forwarded, then answered."""

from collections.abc import Callable
from dataclasses import dataclass

from policies.egress import Allow, Deny, EgressRules, Scheme, decide
from runner.inside.audit import (
    BAD_GATEWAY,
    BAD_REQUEST,
    FORBIDDEN,
    TIMED_OUT,
    Audit,
    Dialled,
    refuse,
)
from runner.inside.budget import Budget
from runner.inside.errors import BodyError, EgressDeniedError, HeadError, UpstreamError
from runner.inside.httphead import Head, forwarded
from runner.inside.incoming import Incoming
from runner.inside.link import Link
from runner.inside.reader import Body
from runner.inside.replyhead import Reply
from runner.inside.route import Dial, Resolve, checked, connect
from runner.inside.splice import prompt
from runner.inside.tls import problem, secure

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_WAIT, _SWITCH = 100, 101
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What may be asked again of a server that has ended an idle connection at this very moment.
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all connections of a run share. Rules are asked for anew with every request."""

    rules: Callable[[], EgressRules]
    audit: Audit
    budget: Budget
    resolve: Resolve
    dial: Dial
    idle_seconds: float


class Exchange:
    def __init__(
        self, incoming: Incoming, dialled: Dialled, *, scheme: Scheme, means: Means
    ) -> None:
        self._incoming = incoming
        self._client = incoming.sock
        self._dialled = dialled
        self._scheme: Scheme = scheme
        self._means = means
        self._link: Link | None = None
        self._told: set[tuple[str, str]] = set()
        self._answering = False

    def run(self) -> None:
        """Until one side has enough. Raises OSError of the client's connection."""
        prompt(self._client)
        try:
            head = self._incoming.head()
            while head is not None and self._serve(head):
                head = self._incoming.next_head()
        except HeadError as exc:
            self._turn_away(f"{exc.status} Refused", exc.reason)
        except TimeoutError as exc:
            self._turn_away(TIMED_OUT, str(exc))
        finally:
            self._drop()

    def _turn_away(
        self, status: str, reason: str, *, rule: str = "", head: Head | None = None
    ) -> None:
        method, path = (head.method, head.path) if head else ("", "")
        self._means.audit.deny(self._dialled, reason, rule=rule, method=method, path=path)
        if not self._answering:
            refuse(self._incoming, status, self._dialled, reason)

    def _serve(self, head: Head) -> bool:
        """True if the client may ask again."""
        self._answering = False
        try:
            return self._forward(head)
        except EgressDeniedError as exc:
            self._turn_away(FORBIDDEN, exc.reason, rule=exc.rule, head=head)
        except BodyError as exc:
            self._turn_away(BAD_REQUEST, str(exc), head=head)
        except UpstreamError as exc:
            if self._link:
                self._link.trouble = str(exc)
            if not self._answering:
                said = f"{self._dialled.host} failed: {exc}"
                refuse(self._incoming, BAD_GATEWAY, self._dialled, said)
        return False

    def _forward(self, head: Head) -> bool:
        allow = self._judge(head)
        reused = self._reuse(allow)
        try:
            return self._exchange(head, allow)
        except UpstreamError as exc:
            again = reused and exc.silent and head.length == 0 and head.method in _REPEATABLE
            if not again or self._answering:
                raise
        self._drop()
        return self._exchange(head, allow)

    def _judge(self, head: Head) -> Allow:
        """Raises EgressDeniedError."""
        dialled = self._dialled
        if not dialled.host:
            raise EgressDeniedError("the address was dialled without looking up a name")
        answer = decide(
            self._means.rules(),
            method=head.method,
            scheme=self._scheme,
            host=dialled.host,
            port=dialled.port,
            path=head.path,
        )
        if isinstance(answer, Deny):
            raise EgressDeniedError(answer.reason, rule=answer.rule)
        if head.host != answer.host or head.port not in {None, answer.port}:
            port = f":{head.port}" if head.port else ""
            raise EgressDeniedError(f"the request asks for {head.host}{port}, another host")
        if (head.length or 0) > self._means.budget.left(answer):
            self._means.budget.send(answer, head.length or 0)
        return answer

    # The server's side

    def _reuse(self, allow: Allow) -> bool:
        """True if there is a connection that will do."""
        link = self._link
        if link is not None and (link.stale or not _same_reach(link.allow, allow)):
            self._drop()
        return self._link is not None

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
            self._means.audit.closed(
                link.allow,
                flow=link,
                address=link.address,
                reason=link.trouble,
                requests=link.requests,
            )

    def _linked(self, head: Head, allow: Allow) -> Link:
        """The connection for this request. The decision is written down before anything is dialled."""
        means, link = self._means, self._link
        told = (allow.rule, head.method)
        if link is not None:
            if told not in self._told:
                means.audit.allow(allow, link.address, method=head.method, path=head.path)
            self._told.add(told)
            return link
        addresses = checked(allow, resolve=means.resolve)
        means.audit.allow(allow, addresses[0], method=head.method, path=head.path)
        self._told = {told}
        try:
            address, sock = connect(addresses, allow.port, dial=means.dial)
            if self._scheme == "https":
                sock = secure(sock, allow.host)
        except OSError as exc:
            means.audit.closed(allow, reason=f"no connection: {problem(exc)}")
            raise UpstreamError(f"it does not answer ({problem(exc)})") from exc
        self._link = link = Link(
            sock, allow=allow, address=address, idle_seconds=means.idle_seconds
        )
        return link

    # One request

    def _exchange(self, head: Head, allow: Allow) -> bool:
        link = self._linked(head, allow)
        default = _DEFAULT_PORTS[self._scheme] == allow.port
        authority = allow.host if default else f"{allow.host}:{allow.port}"
        self._send(link, allow, forwarded(head, authority=authority))
        link.requests += 1
        early = self._upload(head, allow, link)
        reply = early or _final(link, head)
        stays = head.stays and early is None
        self._download(reply, allow, link, stays=stays)
        if early or not reply.stays:
            self._drop()
        return stays

    def _send(self, link: Link, allow: Allow, data: bytes) -> None:
        self._means.budget.send(allow, len(data))
        link.send(data)

    def _upload(self, head: Head, allow: Allow, link: Link) -> Reply | None:
        """Send the body; the server's answer, if it comes before the body has gone."""
        body = Body(self._incoming, head.length)
        while not body.done:
            if not self._incoming.has_data and link.answers_before(self._incoming):
                reply = link.reply(head.method)
                if not reply.interim:
                    return reply
                if reply.status == _WAIT and head.expects_continue:
                    self._client.sendall(_CONTINUE)
                continue
            data = body.read()
            if data:
                framed = data if head.length is not None else _chunk(data)
                self._send(link, allow, framed)
        if head.length is None:
            self._send(link, allow, _LAST_CHUNK)
        return None

    def _download(self, reply: Reply, allow: Allow, link: Link, *, stays: bool) -> None:
        out = reply.head(stays=stays)
        chunked = reply.framing in {"chunks", "end"}
        if reply.framing == "none" or not link.has_data:
            self._answer(out)
            out = b""
        if reply.framing == "none":
            return
        for data in link.content(reply):
            self._means.budget.receive(allow, len(data))
            framed = _chunk(data) if chunked else data
            self._answer(out + framed if out else framed)
            out = b""
        self._answer(out + _LAST_CHUNK if chunked else out)

    def _answer(self, data: bytes) -> None:
        self._answering = True
        if data:
            self._client.sendall(data)


def _same_reach(one: Allow, other: Allow) -> bool:
    return (one.private, one.addresses) == (other.private, other.addresses)


def _final(link: Link, head: Head) -> Reply:
    while (reply := link.reply(head.method)).interim:
        if reply.status == _SWITCH:
            raise UpstreamError("it wants to go on in another protocol")
    return reply


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
