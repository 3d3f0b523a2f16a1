"""The only way out of a run: takes sockets from the acceptor, lets through what policy names, and logs both.

Policy comes on standard input, never by environment or arguments. Without one, everything is denied.
"""

import argparse
import contextlib
import datetime as dt
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

from policies.connections import Connections
from policies.connections_json import connections_from_json
from policies.egress import EgressRules
from policies.egress import rules_from_json as egress_from_json
from policies.publish import PublishRules
from policies.publish import rules_from_json as publish_from_json
from runner.inside import trust
from runner.inside.audit import QUIET_SECONDS, Audit
from runner.inside.broker import Broker
from runner.inside.budget import Budget, Pace
from runner.inside.connections import ConnectionEndpoint
from runner.inside.errors import CertificateError, GitReadError
from runner.inside.exchange import Means
from runner.inside.gitfetch import Readable
from runner.inside.githttp import GitEndpoint
from runner.inside.handover import listen, take, uid_of
from runner.inside.ledger import Ledger, budget_from_json
from runner.inside.openings import Openings
from runner.inside.passage import Passage
from runner.inside.quarantine import Quarantine, Target
from runner.inside.route import Dial, Resolve, dial, resolve
from runner.inside.splice import IDLE_SECONDS, background
from runner.inside.tls import Disguise, outward
from runner.inside.wire import Letter, Transcript, letters

PASSAGES = 64
# A model that does not stream is silent while it thinks.
MODEL_PATIENCE = 2
_DAY_SECONDS = 24 * 3600
_YEAR_SECONDS = 366 * _DAY_SECONDS
_CODE = Path(__file__).resolve().parents[2]


class Certifying(Protocol):
    """The part of `authority.Authority` that is used here."""

    @property
    def certificate(self) -> str: ...

    def leaf(self, host: str) -> bytes: ...


_Maker = Callable[..., Certifying]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the gateway leaves certificates, and what it adds them to."""

    trust: Path
    system: Path


class Gateway:
    def __init__(
        self,
        *,
        transcript: Transcript,
        quarantine: Quarantine,
        readable: Readable,
        places: Places,
        resolve: Resolve,
        dial: Dial,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.audit = Audit(transcript)
        self._quarantine = quarantine
        self._readable = readable
        self._places = places
        self._rules = EgressRules()
        self._openings = Openings()
        self._connections = Connections()
        self._ledger = Ledger(transcript)
        self._authority: Certifying | None = None
        self._makers: queue.SimpleQueue[_Maker | ImportError] = queue.SimpleQueue()
        background(partial(_prepare, self._makers))
        self._slots = threading.BoundedSemaphore(PASSAGES)
        self._pace = Pace()
        self.broker = Broker(transcript, audit=self.audit)
        self._passage = Passage(
            means=Means(
                rules=lambda: self._openings.added_to(self._rules),
                audit=self.audit,
                budget=Budget(),
                resolve=resolve,
                dial=dial,
                idle_seconds=idle_seconds,
            ),
            disguise=Disguise(self._leaf),
            git=GitEndpoint(
                quarantine=quarantine, readable=readable, transcript=transcript, audit=self.audit
            ),
            endpoint=ConnectionEndpoint(
                connections=lambda: self._connections,
                ledger=self._ledger,
                audit=self.audit,
                resolve=resolve,
                dial=dial,
                idle_seconds=MODEL_PATIENCE * idle_seconds,
            ),
            broker=self.broker,
        )

    def load(self, msg: Mapping[str, Any]) -> str | None:
        """Take a policy, or leave everything as it is and say why not."""
        egress = egress_from_json(msg)
        publish = publish_from_json(msg.get("publish", {}))
        connections = connections_from_json(msg.get("connections", []))
        budget = budget_from_json(msg.get("budget", {"limit_usd": 0, "spent_usd": 0}))
        seconds = msg.get("seconds", _DAY_SECONDS)
        if egress is None or publish is None or connections is None or budget is None:
            return "the policy is not understood"
        if type(seconds) is not int or not 0 < seconds <= _YEAR_SECONDS:
            return "the policy gives the run no time that could be understood"
        if said := self._readable.load(msg):
            return said
        try:
            self._open(msg, publish)
            self._certify(seconds)
        except (GitReadError, OSError) as exc:
            return f"the quarantine cannot be made: {exc}"
        except CertificateError as exc:
            return str(exc)
        self._rules, self._connections = egress, connections
        self._ledger.limit(budget)
        self.broker.load(msg.get("broker", []))
        return None

    def allow(self, msg: Mapping[str, Any]) -> str | None:
        """Open one host more, or say why not."""
        return self._openings.load(msg)

    def _certify(self, seconds: int) -> None:
        """Make the run's authority, once, and let the agent's container trust it. Raises CertificateError."""
        if self._authority is not None:
            return
        maker = self._makers.get()
        self._makers.put(maker)
        if isinstance(maker, Exception):
            raise CertificateError(f"no certificates can be made: {maker}")
        try:
            authority = maker(seconds=seconds, now=dt.datetime.now(dt.UTC))
            trust.write(self._places.trust, authority.certificate, system=self._places.system)
        except (OSError, ValueError) as exc:
            raise CertificateError(f"certificates cannot be given out: {exc}") from exc
        self._authority = authority

    def _leaf(self, host: str) -> bytes:
        if self._authority is None:
            raise OSError("there is no certificate authority")
        return self._authority.leaf(host)

    def _open(self, msg: Mapping[str, Any], publish: PublishRules) -> None:
        repo, branch, base = (msg.get(name, "") for name in ("repo", "branch", "base"))
        if not all(isinstance(text, str) and text for text in (repo, branch, base)):
            return
        self._quarantine.open(Target(repo=repo, branch=branch, base=base), rules=publish)

    def accept(self, listener: socket.socket, *, uid: int) -> None:
        """Serve what the acceptor hands over, for ever; when all places are taken, or too many come, they wait."""
        pause = threading.Event()
        while True:
            self._slots.acquire()
            try:
                peer, _ = listener.accept()
            except OSError:
                self._slots.release()
                continue
            pause.wait(self._pace.wait_seconds())
            try:
                threading.Thread(target=self._serve, args=(peer, uid), daemon=True).start()
            except RuntimeError:
                # The container has no thread left: this caller is turned away, the next may have one.
                peer.close()
                self._slots.release()

    def settle(self) -> NoReturn:
        """Now and then tell what was only counted."""
        pause = threading.Event()
        while True:
            pause.wait(QUIET_SECONDS)
            self.audit.settle()

    def _serve(self, peer: socket.socket, uid: int) -> None:
        try:
            with peer, contextlib.suppress(OSError):
                taken = take(peer) if uid_of(peer) == uid else None
            if taken is not None:
                self._passage.serve(*taken)
        finally:
            self._slots.release()


def _prepare(makers: "queue.SimpleQueue[_Maker | ImportError]") -> None:
    """What takes a while and needs no policy."""
    try:
        from runner.inside.authority import Authority  # noqa: PLC0415 - it takes as long as half of the rest
    except ImportError as exc:
        makers.put(exc)
    else:
        makers.put(Authority)
    # Whom hosts are certified by is needed a little later only.
    outward()


class _Control:
    """Reads the worker's lines; the first good policy opens the gateway."""

    def __init__(self, *, gateway: Gateway, transcript: Transcript, path: Path, uid: int) -> None:
        self._gateway = gateway
        self._transcript = transcript
        self._path = path
        self._uid = uid
        self._open = False

    def read(self) -> None:
        """Until standard input ends, which stops nothing."""
        for found in letters(sys.stdin.buffer):
            if isinstance(found, Letter):
                self._act(found.msg)
                # The message stays out of the log: a policy may hold secrets.
                self._transcript.write("received", key=found.key)
            else:
                self._transcript.write("noise", text=f"input: {found.text}")

    def _act(self, msg: Mapping[str, Any]) -> None:
        match msg.get("do"):
            case "policy":
                self._load(msg)
            case "allow":
                self._note(self._gateway.allow(msg))
            case "answer":
                self._gateway.broker.answer(msg)
            case "note":
                pass  # its `received` says that all before it is written
            case _:
                self._note("a message asks for nothing known")

    def _load(self, msg: Mapping[str, Any]) -> None:
        wrong = self._gateway.load(msg)
        if self._open:
            self._note(f"The policy stays as it was: {wrong}" if wrong else None)
        elif wrong is not None:
            self._transcript.fatal(wrong)
        else:
            self._start()

    def _note(self, wrong: str | None) -> None:
        if wrong is not None:
            self._gateway.audit.remark(wrong)

    def _start(self) -> None:
        try:
            listener = listen(self._path)
        except OSError as exc:
            self._transcript.fatal(f"cannot listen: {exc}")
            return
        self._open = True
        threading.Thread(
            target=self._gateway.accept, args=(listener,), kwargs={"uid": self._uid}, daemon=True
        ).start()
        threading.Thread(target=self._gateway.settle, daemon=True).start()
        self._transcript.write("ready")


def main(
    argv: Sequence[str] | None = None, *, resolve: Resolve = resolve, dial: Dial = dial
) -> None:
    parser = argparse.ArgumentParser(prog="gateway")
    parser.add_argument("--acceptor-uid", type=int, default=10002)
    parser.add_argument("--socket", type=Path, default=Path("/run/egress/gw.sock"))
    parser.add_argument("--state", type=Path, default=Path("/quarantine"))
    parser.add_argument("--mirror", type=Path, default=Path("/mirror"))
    parser.add_argument("--reads", type=Path, default=Path("/reads"))
    parser.add_argument("--trust", type=Path, default=Path(trust.DIRECTORY))
    parser.add_argument("--system-bundle", type=Path, default=trust.SYSTEM_BUNDLE)
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS)
    args = parser.parse_args(argv)
    transcript = Transcript(sys.stdout.buffer)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    gateway = Gateway(
        transcript=transcript,
        quarantine=Quarantine(state=args.state, mirror=args.mirror, code=_CODE),
        readable=Readable(mirror=args.mirror, others=args.reads),
        places=Places(trust=args.trust, system=args.system_bundle),
        resolve=resolve,
        dial=dial,
        idle_seconds=args.idle_seconds,
    )
    control = _Control(
        gateway=gateway, transcript=transcript, path=args.socket, uid=args.acceptor_uid
    )
    threading.Thread(target=control.read, daemon=True).start()
    stop.wait()
    gateway.audit.settle()
    os._exit(128 + signal.SIGTERM)
