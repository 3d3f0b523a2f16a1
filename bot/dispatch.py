"""From a queued row to a launch on the bus, and what becomes of runs whose host fell silent."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.bus import Bus
from bot.guard import others_go_on
from bot.in_force import InForce
from bot.intake import Signal, utc_now
from bot.line import in_turn
from bot.lost import after_loss
from bot.metrics import Metrics
from bot.progress import View
from bot.questions import drop
from bot.record import record
from bot.restored import lowest_fence
from bot.said import show_card
from bot.states import IN_SANDBOX, TaskState
from bot.store import commands, runs, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreUnavailableError
from bot.store.rows import CommandRow, RunRow, TaskRow
from bot.tasks import end_round
from integrations.channel import Channel
from integrations.errors import IntegrationError
from policies.model import Policy
from runner.protocol import Answer, Command, HostOpening, RunKey
from runner.tracing import NoTracing, Tracing

log = structlog.get_logger()

SWEEP_SECONDS = 2.0
RESEND_SECONDS = 3.0
NAME_SECONDS = 2.0
AWAY = (StoreUnavailableError, RedisError, OSError)
"""What all tasks meet, not one."""
REMEMBERED = timedelta(days=7)
"""How long a worker may come back and ask after a run that has ended."""


@dataclass(slots=True, kw_only=True)
class Dispatcher:
    """Starts what is queued, passes commands on, and starts again what was lost.

    SQL is committed first, Redis told after: what dies in between is found by `reconcile`.
    """

    store: Store
    bus: Bus
    in_force: InForce
    channels: Mapping[str, Channel]
    queued: Signal
    spoken: Signal
    commanded: Signal
    grace_seconds: float = 60.0
    """How long a run may be without a lease before it counts as lost."""
    now: Callable[[], datetime] = utc_now
    clock: Callable[[], float] = time.monotonic
    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=NoTracing)
    _missing: dict[RunKey, float] = field(default_factory=dict)
    _sought: set[RunKey] = field(default_factory=set)
    """Those that are to be stopped, and of whose host Redis knows nothing."""
    _claimed: set[RunKey] = field(default_factory=set)
    """Those of which SQL knows that a host has claimed them."""
    _strangers: dict[str, float] = field(default_factory=dict)
    """Leases of tasks that SQL does not know, and since when."""

    @property
    def policy(self) -> Policy:
        return self.in_force.policy

    async def run(self) -> None:
        """Dispatch and reconcile until cancelled."""
        while True:
            try:
                await self.dispatch()
                await self.reconcile()
            except (StoreError, RedisError, OSError) as error:
                log.warning("dispatch_failed", error=repr(error))
            await self.queued.wait(SWEEP_SECONDS)

    async def run_commands(self) -> None:
        """Pass commands on until cancelled; each is sent again until its run has seen it."""
        while True:
            try:
                await self.send_commands()
            except (StoreError, RedisError, OSError) as error:
                log.warning("commands_failed", error=repr(error))
            await self.commanded.wait(SWEEP_SECONDS)

    async def dispatch(self) -> int:
        """Launch what the limits allow and hosts have room for, the repositories in turn; the number of launches."""
        async with self.store.read() as conn:
            live = await tasks.in_states(conn, IN_SANDBOX)
            waiting = await self._candidates(conn, live)
        if waiting:
            # What is begun while Redis takes nothing would wait for the grace.
            await self.bus.check_writable()
        room = (await self.bus.traffic()).room if waiting else 0
        launched = 0
        named_by = asyncio.get_running_loop().time() + NAME_SECONDS
        for task in in_turn(waiting, live):
            if launched < room and self._has_room(task, live):
                with self._others_go_on(task):
                    run = await self._begin(task, named_by=named_by)
                    if run is not None:
                        live.append(task)
                        launched += 1
                        await self.bus.push_launch(run)
        if launched:
            self.spoken.set()
        return launched

    async def _candidates(self, conn: AsyncConnection, live: list[TaskRow]) -> list[TaskRow]:
        """A long queue takes long to read, and with every new task: only what could start is."""
        limits = self.policy.limits
        if len(live) >= limits.tasks:
            return []
        people, repos = Counter(t.requester for t in live), Counter(t.repo for t in live)
        return await tasks.candidates(
            conn,
            each=limits.tasks_per_person,
            per_repo=limits.tasks_per_repo,
            full_people=[who for who, n in people.items() if n >= limits.tasks_per_person],
            full_repos=[repo for repo, n in repos.items() if n >= limits.tasks_per_repo],
        )

    def _has_room(self, task: TaskRow, live: list[TaskRow]) -> bool:
        limits = self.policy.limits
        return (
            len(live) < limits.tasks
            and sum(t.requester == task.requester for t in live) < limits.tasks_per_person
            and sum(t.repo == task.repo for t in live) < limits.tasks_per_repo
        )

    def _others_go_on(self, task: TaskRow) -> AbstractContextManager[None]:
        return others_go_on("dispatch", self.metrics, *AWAY, task=task.id)

    async def _name(self, task: TaskRow, *, by: float) -> str:
        """The name of who asked, for the commits and the pull request, if it is known by then, in the loop's time."""
        channel = self.channels.get(task.conversation.channel)
        if channel is None:
            return task.requester_name
        try:
            async with asyncio.timeout_at(by):
                return await channel.name_of(task.requester)
        except (IntegrationError, OSError) as error:
            log.warning("name_unknown", task=task.id, error=repr(error))
            return task.requester_name

    async def _begin(self, task: TaskRow, *, named_by: float) -> RunKey | None:
        name = await self._name(task, by=named_by)
        now = self.now()
        async with self.store.begin() as tx:
            # Another `serve` may have begun something since we looked.
            if not self._has_room(task, await tasks.in_states(tx, IN_SANDBOX)):
                return None
            fence = max(task.fence + 1, await lowest_fence(tx))
            moved = await tasks.move(
                tx,
                task.id,
                to=TaskState.STARTING,
                old=[TaskState.QUEUED],
                fence=task.fence,
                changed_at=now,
                new_fence=fence,
                attempts=task.attempts + 1,
                requester_name=name,
            )
            if not moved:
                return None
            await runs.insert(tx, _new_run(task, fence, now))
            await record(
                tx,
                now=now,
                actor="dispatch",
                action="launch",
                task=task.id,
                decision="granted",
                policy_hash=task.policy_hash,
                fence=fence,
            )
            fresh = await tasks.get(tx, task.id)
            if fresh is not None:
                await show_card(tx, fresh, now=now)
        self.metrics.launches.inc()
        self.tracing.tell("queue", task=task.id, start=task.changed_at, end=now, fence=fence)
        waited = round((now - task.changed_at).total_seconds(), 3)
        log.info("run_dispatched", task=task.id, fence=fence, seconds=waited)
        return RunKey(task=task.id, fence=fence)

    async def send_commands(self) -> int:
        """Send every open command to the host of its task's run."""
        now = self.now()
        async with self.store.read() as conn:
            live = await tasks.in_states(conn, IN_SANDBOX)
            open_commands = [c for t in live for c in await commands.open_for(conn, t.id)]
        by_id = {task.id: task for task in live}
        sent: list[str] = []
        for command in open_commands:
            if command.sent_at and (now - command.sent_at).total_seconds() < RESEND_SECONDS:
                continue
            with self._others_go_on(by_id[command.task]):
                if await self._send(command, by_id[command.task]):
                    sent.append(command.id)
        if sent:
            async with self.store.begin() as tx:
                await commands.mark_sent(tx, sent, now)
        return len(sent)

    async def _send(self, row: CommandRow, task: TaskRow) -> bool:
        run = _run_of(task)
        host = await self.bus.owner(run)
        if host is None:
            if task.state is TaskState.STOPPING:
                await self._stop_without_host(task)
            return False
        await self.bus.send(host, _command(row, run))
        return True

    async def _stop_without_host(self, task: TaskRow) -> None:
        """No host has taken the launch; or Redis has forgotten which: that one still gets the grace to hand in its work."""
        run = _run_of(task)
        async with self.store.read() as conn:
            row = await runs.get(conn, task.id, task.fence)
        if row is not None and row.started_at is None and await self.bus.take_back(run):
            await self.give_up(task, reason="stopped before a host had taken it")
        elif run not in self._sought:
            self._sought.add(run)
            await self._say_sought(task)

    async def _say_sought(self, task: TaskRow) -> None:
        now = self.now()
        async with self.store.begin() as tx:
            fresh = await tasks.get(tx, task.id)
            if fresh is None or (fresh.state, fresh.fence) != (task.state, task.fence):
                return
            seconds = round(self.grace_seconds)
            note = f"waits {seconds} s at most for its host to come back with what was done so far"
            await show_card(tx, fresh, now=now, note=note)
        self.spoken.set()

    async def reconcile(self) -> None:
        """Bring Redis in line with SQL, and give up on runs that nobody holds.

        A missing key can mean that Redis lost its data, so what SQL knows is written back first, and a run
        is lost only when a whole grace has passed in which its worker could have claimed it again.
        """
        async with self.store.read() as conn:
            live = await tasks.in_states(conn, IN_SANDBOX)
        if not await self.bus.has_epoch():
            await self._release_ended()
            await self.bus.begin_epoch()
        held = {_run_of(task) for task in live}
        self._missing = {run: at for run, at in self._missing.items() if run in held}
        self._sought &= held
        self._claimed &= held
        for task in live:
            with self._others_go_on(task):
                await self._look_after(task)
        strangers = set(await self.bus.leased_tasks()) - {run.task for run in held}
        self._strangers = {t: at for t, at in self._strangers.items() if t in strangers}
        for task_id in strangers:
            await self._release(task_id)

    async def _look_after(self, task: TaskRow) -> None:
        run = _run_of(task)
        if not await self.bus.is_known(run):
            await self.bus.restore(run)
        leased = await self.bus.has_lease(task.id)
        if leased:
            await self._note_claim(task)
        # What has begun waits for no launch, even where an old Redis still has it.
        if leased or (task.state is TaskState.STARTING and await self.bus.has_launch(run)):
            self._missing.pop(run, None)
            return
        since = self._missing.setdefault(run, self.clock())
        if self.clock() - since >= self.grace_seconds:
            self._missing.pop(run, None)
            await self.give_up(task, reason="its host fell silent")

    async def _note_claim(self, task: TaskRow) -> None:
        """Redis may be lost; that a host had the run, before it told of a beginning, must be known all the same."""
        run = _run_of(task)
        if task.state is not TaskState.STARTING or run in self._claimed:
            return
        if host := await self.bus.owner(run):
            async with self.store.begin() as tx:
                await runs.update(tx, task.id, task.fence, host=host)
            self._claimed.add(run)

    async def _release(self, task_id: str) -> None:
        """A lease without a run. One that SQL does not know is set aside, not ended: SQL may be an old copy."""
        async with self.store.read() as conn:
            task = await tasks.get(conn, task_id)
        if task is None:
            since = self._strangers.setdefault(task_id, self.clock())
            run = await self.bus.leased_run(task_id)
            if run is not None and self.clock() - since >= self.grace_seconds:
                log.error("run_unknown", run=str(run), hint="errand aside list")
                await self.bus.disown(run)
        elif task.state not in IN_SANDBOX:
            await self.bus.release(_run_of(task))

    async def _release_ended(self) -> None:
        """Redis has lost its data: workers that were about to hear of the end of their run ask for ever."""
        since = self.now() - REMEMBERED
        async with self.store.read() as conn:
            newest = await tasks.listing(conn, limit=1000)
        for task in newest:
            if task.fence and task.state not in IN_SANDBOX and task.changed_at > since:
                await self.bus.release(_run_of(task))

    async def give_up(self, task: TaskRow, *, reason: str) -> None:
        """A run is lost: queue the task again, or end it."""
        now, owner = self.now(), await self.bus.owner(_run_of(task))
        async with self.store.begin() as tx:
            row = await runs.get(tx, task.id, task.fence)
            loss = after_loss(task, row, owner=owner, reason=reason, now=now)
            if not await tasks.move(
                tx,
                task.id,
                to=loss.to,
                old=[task.state],
                fence=task.fence,
                changed_at=now,
                ended_at=None if loss.last_word is None else now,
                attempts=loss.attempts,
                reason=loss.reason,
            ):
                return
            await runs.update(
                tx, task.id, task.fence, ended_at=now, outcome="lost", reason=loss.reason
            )
            await record(
                tx,
                now=now,
                actor="dispatch",
                action="run_lost",
                task=task.id,
                fence=task.fence,
                reason=loss.reason,
            )
            if loss.last_word is not None:
                await end_round(tx, task.id, loss.last_word, now=now)
            elif fresh := await tasks.get(tx, task.id):
                await show_card(tx, fresh, now=now)
            await drop(tx, task, now=now)
        log.warning("run_lost", task=task.id, fence=task.fence, reason=loss.reason, next=loss.to)
        self.spoken.set()
        self.queued.set()
        await self.bus.release(_run_of(task))


def _run_of(task: TaskRow) -> RunKey:
    return RunKey(task=task.id, fence=task.fence)


def _new_run(task: TaskRow, fence: int, now: datetime) -> RunRow:
    return RunRow(
        task=task.id,
        fence=fence,
        round=task.round,
        host="",
        agent="",
        image="",
        image_digest="",
        base_commit="",
        policy_hash=task.policy_hash,
        queued_at=now,
        started_at=None,
        ended_at=None,
        outcome="",
        reason="",
        view=View().model_dump(mode="json"),
    )


def _command(row: CommandRow, run: RunKey) -> Command:
    """A row of kind `allow` holds the opening as JSON in its text, one of kind `answer` the answer."""
    fields = {"id": row.id, "run": run, "kind": row.kind}
    if row.kind == "allow":
        return Command.model_validate(
            {**fields, "opening": HostOpening.model_validate_json(row.text)}
        )
    if row.kind == "answer":
        return Command.model_validate({**fields, "answer": Answer.model_validate_json(row.text)})
    return Command.model_validate({**fields, "text": row.text})
