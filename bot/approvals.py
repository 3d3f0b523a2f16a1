"""Hosts that an agent wanted and policy does not list: asked about once, decided by people, never wider than asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import words
from bot.answers import Answers, seq_of
from bot.record import record
from bot.said import say_everywhere, settle, was_pressed_on
from bot.states import IN_SANDBOX
from bot.store import approvals, commands, cursors, runs
from bot.store.rows import ApprovalRow, CommandRow, TaskRow
from integrations.channel import Inbound, Notice, Option, Question
from policies.decide import approvers
from policies.hosts import EgressRule
from policies.model import Grant, Policy
from policies.names import Host
from runner.agents.catalogue import CATALOGUE
from runner.protocol import Egress, HostOpening

MAX_ASKED: Final = 5
"""Hosts that one round asks about; more are only shown on the card."""
UNDECIDED: Final = "not decided: the errand has ended"
_PORTS: Final = {443: "https:443", 80: "http:80"}
_TOLD: Final = {
    "allow": "{host} is open now: try again what was refused.",
    "block": "{host} stays blocked: find another way.",
}
_READING: Final = ("GET", "HEAD")
_host: TypeAdapter[str] = TypeAdapter(Host)


async def ask_about(
    tx: AsyncConnection, policy: Policy, task: TaskRow, denied: Egress, *, now: datetime
) -> None:
    """Ask in the conversations whether a host may be reached: once per round and host, where anybody may say so.

    Asked about is only what is on no list; what a rule refuses (a method, a path, a private address) stays refused.
    """
    if denied.rule or denied.port not in _PORTS or not is_host(denied.host):
        return
    whose = approvers(policy, task.repo)
    if _is_listed(task, denied.host) or not whose:
        return
    asked = await _asked(tx, task)
    if denied.host in asked or len(asked) >= MAX_ASKED:
        return
    if await _is_blocked(tx, task, denied.host, now):
        return
    wanted = " ".join([denied.host, str(denied.port), denied.method])
    await cursors.put(tx, _asked_key(task), "\n".join([*asked.values(), wanted]))
    how = ", ".join(part for part in (denied.method, f"port {denied.port}") if part)
    text = (
        f"The agent wants {denied.host} ({how}), which is not on {task.repo}'s list.\n"
        f"Once opens it to this errand only, for {task.repo} to all of its errands for "
        f"{policy.limits.approval_days} days. To be decided by {whose}, until this errand ends."
    )
    question = Question(text=text, options=_options(denied.host, task.repo))
    await say_everywhere(tx, task, question, seq=_seq(task, denied.host), now=now)


async def lapse(tx: AsyncConnection, task: TaskRow, *, now: datetime) -> None:
    """A round has ended: what nobody has decided, nobody waits for."""
    for host in await _asked(tx, task):
        seq = _seq(task, host)
        await settle(tx, task, seq=seq, chosen=UNDECIDED, now=now, still_open=True)


async def _is_blocked(conn: AsyncConnection, task: TaskRow, host: str, now: datetime) -> bool:
    """Somebody has said no already, in an earlier round."""
    rows = await approvals.in_force(conn, repo=task.repo, task=task.id, now=now)
    return any(row.host == host and row.verdict == "block" for row in rows)


def _is_listed(task: TaskRow, host: str) -> bool:
    """Whatever was wrong with the request, the host is open already."""
    rules = Grant.model_validate(task.grant).egress
    return any(host == r.host or host.endswith(r.host.removeprefix("*")) for r in rules)


def _options(host: str, repo: str) -> tuple[Option, ...]:
    return (
        Option(label="Allow once", words=f"allow {host}"),
        Option(label=f"Allow for {repo}", words=f"allow {host} for {repo}"),
        Option(label="Keep blocked", words=f"block {host}"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulings:
    """What people say about hosts."""

    answers: Answers

    async def take(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, ruling: words.Ruling
    ) -> None:
        """Decide as was said, if they may; tell everybody, the gateway and the agent."""
        if inbound.pressed and not await was_pressed_on(
            tx, task, inbound, seq=_seq(task, ruling.host)
        ):
            return  # it shows who decided, or that nobody waits for it any more
        if not is_host(ruling.host):
            text = f"`{ruling.host}` is no host that could be allowed: write one whole name, like registry.example.com."
            await self.answers.tell(tx, inbound, text, task=task.id, error=True)
            return
        if not await self.answers.granted(tx, inbound, task, action="approve"):
            return
        row = self._row(inbound, task, ruling, (await _asked(tx, task)).get(ruling.host, ""))
        if not await approvals.insert(tx, row):
            return
        await record(
            tx,
            now=self.answers.now,
            actor=inbound.author,
            action="egress_ruling",
            task=task.id,
            decision=row.verdict,
            policy_hash=self.answers.policy.hash,
            host=row.host,
            ports=row.ports,
            methods=row.methods,
            repo=row.repo if ruling.for_repo else "",
            expires=row.expires_at.isoformat() if row.expires_at else "",
        )
        told = task.state in IN_SANDBOX and await _listens(tx, task)
        if task.state in IN_SANDBOX:
            await self._open(tx, inbound, task, row)
        if told:
            # After the gateway, so that the agent does not try before it may.
            text = _TOLD[row.verdict].format(host=row.host)
            await self._command(tx, inbound, task, kind="steer", text=text)
        chosen = f"{'allowed' if row.verdict == 'allow' else 'blocked'} by {inbound.author_name}"
        await settle(tx, task, seq=_seq(task, row.host), chosen=chosen, now=self.answers.now)
        notice = Notice(text=_said(inbound, row) + (" and told the agent." if told else "."))
        await say_everywhere(tx, task, notice, seq=f"ruling:{row.id}", now=self.answers.now)

    def _row(
        self, inbound: Inbound, task: TaskRow, ruling: words.Ruling, wanted: str
    ) -> ApprovalRow:
        _, _, asked = wanted.partition(" ")
        port, _, method = asked.partition(" ")
        days = timedelta(days=self.answers.policy.limits.approval_days)
        lasting = ruling.for_repo and ruling.verdict == "allow"
        return ApprovalRow(
            id=str(uuid5(NAMESPACE_URL, seq_of(inbound, "ruling"))),
            repo=task.repo,
            task="" if lasting else task.id,
            host=ruling.host,
            ports=(_PORTS[int(port)],) if port else tuple(_PORTS.values()),
            methods=tuple(dict.fromkeys([*_READING, method])) if method else None,
            verdict=ruling.verdict,
            by=inbound.author,
            decided_at=self.answers.now,
            expires_at=self.answers.now + days if lasting else None,
        )

    async def _open(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, row: ApprovalRow
    ) -> None:
        if row.verdict == "allow":
            opening = HostOpening(
                host=row.host, ports=row.ports, methods=row.methods, expires=row.expires_at
            )
            text = opening.model_dump_json()
            await self._command(tx, inbound, task, kind="allow", text=text)

    async def _command(
        self, tx: AsyncConnection, inbound: Inbound, task: TaskRow, *, kind: str, text: str
    ) -> None:
        row = CommandRow(
            id=seq_of(inbound, f"ruling-{kind}"),
            task=task.id,
            fence=task.fence,
            kind=kind,
            text=text,
            author=inbound.author,
            state="pending",
            created_at=self.answers.now,
            sent_at=None,
        )
        await commands.insert(tx, row)


async def _listens(conn: AsyncConnection, task: TaskRow) -> bool:
    """A script has nothing to do with words."""
    run = await runs.get(conn, task.id, task.fence)
    agent = CATALOGUE.get(run.agent) if run else None
    return agent is not None and agent.repairs


def _said(inbound: Inbound, row: ApprovalRow) -> str:
    who = inbound.author_name or inbound.author
    if row.verdict == "block":
        return f"{who} kept {row.host} blocked for this errand"
    if row.expires_at is None:
        return f"{who} allowed {row.host} for this errand"
    return f"{who} allowed {row.host} for {row.repo} until {row.expires_at.date().isoformat()}"


def is_host(text: str) -> bool:
    """One whole name that a policy could list."""
    if "*" in text:
        return False
    try:
        _host.validate_python(text)
    except ValidationError:
        return False
    return True


def opened(rows: Sequence[ApprovalRow]) -> tuple[EgressRule, ...]:
    """Of what is in force, oldest first, what opens a host: one that was blocked later is not."""
    last = {row.host: row.verdict for row in rows}
    return tuple(
        EgressRule(host=row.host, ports=row.ports, methods=row.methods)
        for row in rows
        if row.verdict == "allow" and last[row.host] == "allow"
    )


async def _asked(conn: AsyncConnection, task: TaskRow) -> dict[str, str]:
    """What was asked about already: `host port method`, by host."""
    lines = (await cursors.get(conn, _asked_key(task)) or "").splitlines()
    return {line.partition(" ")[0]: line for line in lines}


def _asked_key(task: TaskRow) -> str:
    return f"egress-asked:{task.id}:{task.round}"


def _seq(task: TaskRow, host: str) -> str:
    return f"egress:{task.round}:{host}"
