"""One live run on this host: from wherever it stands to its applied end.

Every step may find that it was done before. Killed at any point, a new process calls `follow` and goes on.
"""

import asyncio
import contextlib
import math
import time
from datetime import UTC, datetime
from typing import Final, Literal, NoReturn

import structlog

from runner.accounts import account
from runner.attendance import Attendance
from runner.errors import (
    RunnerError,
    SandboxDiffersError,
    SandboxLostError,
    ServeUnavailableError,
    StaleRunError,
    UnknownRunError,
)
from runner.failures import failure
from runner.lease import GONE, Claim, Standing
from runner.outages import ensured, lacking, outlast
from runner.outlet import Outlet
from runner.preparation import Preparation
from runner.protocol import Command, Event, EventRecord, Finished, Launch, Remark, RunKey, Started
from runner.rundir import Prepared, RunDir
from runner.sandbox import Leftover, Line, Sandbox
from runner.station import Station

log = structlog.get_logger()

STARTED_SEQ: Final = 1
REMARK_SEQ: Final = 2
FINISHED_SEQ: Final = 1_000
CONTAINERS: Final = 3
_KILLED: Final = "It was ended before it could hand in what it had done so far."


class _GoneError(Exception):
    """The run is not ours any more, or done with: clean up."""


class _ForgottenError(Exception):
    """Redis lost its data, or may have lost the end of it: tell everything again."""


class LiveRun:
    """Follow it once; commands may come at any time."""

    def __init__(self, run: RunKey, station: Station) -> None:
        self.run = run
        self._station = station
        self._files = RunDir(station.runs, run)
        self._preparation = Preparation(run, station, self._files)
        self._outlet = Outlet(run, station.streams)
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._stopping = False
        self._stops: set[str] = set()
        self._limit: asyncio.Timeout | None = None
        self._ended = asyncio.Event()
        self._attached = False
        self._unknown = False
        self._server = ""
        self._lacks = 0

    def command(self, command: Command) -> None:
        """Take in what a person wants; the same command twice is one, and a second stop does not wait."""
        self._commands.put_nowait(command)
        if command.kind == "stop":
            self._stops.add(command.id)
            self._stop()

    async def follow(self) -> None:
        """Run it, or go on with it, until its end is applied or it is somebody else's; leaves nothing behind."""
        again = (await self._claim()).standing not in GONE
        while again:
            again = await self._follow()
        if self._unknown:
            await self.set_aside()
        else:
            await self.clean_up()

    async def give_up(self, reason: str) -> None:
        """End a run that broke in a way nobody foresaw."""
        last = self._last(Finished(outcome="failed", reason=reason, infrastructure=True))
        self._ended.set()
        gone = False
        while not gone:
            await self._station.streams.publish(last)
            with contextlib.suppress(_ForgottenError):
                gone = await self._until_gone()
        await self.clean_up()

    async def set_aside(self) -> None:
        """Freeze the sandbox and keep what is known of the run: a person decides. Safe twice."""
        if await self._try_to_freeze():
            if self._files.is_kept_aside():
                await asyncio.to_thread(self._files.set_aside)
            await asyncio.to_thread(self._files.remove)
            await self._station.leases.forget(self.run)

    async def _try_to_freeze(self) -> bool:
        """False leaves it to the next sweep, as `_try_to_remove_sandbox`."""
        try:
            for leftover in await self._leftovers():
                if not leftover.containers:
                    await self._station.backend.discard(leftover)
                    continue
                self._files.keep_aside()
                await self._station.backend.set_aside(leftover)
                self._station.meter.set_aside()
                log.error("sandbox_set_aside", run=str(self.run), containers=leftover.containers)
        except RunnerError as error:
            log.warning("sandbox_not_set_aside", run=str(self.run), error=repr(error))
            return False
        return True

    async def clean_up(self) -> None:
        """Remove the sandbox and everything that is kept of the run, unless it is kept aside. Safe twice."""
        if self._files.is_kept_aside():
            await self.set_aside()
        elif await self._try_to_remove_sandbox():
            await asyncio.to_thread(self._files.remove)
            await self._station.leases.forget(self.run)

    async def _follow(self) -> bool:
        """True if it is to be followed again."""
        again = False
        self._outlet = Outlet(self.run, self._station.streams)
        self._ended = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renew())
                group.create_task(self._outlet.pump())
                await self._live()
        except* UnknownRunError:
            self._unknown = True
        except* (_GoneError, StaleRunError):
            log.info("run_left", run=str(self.run), ended=self._ended.is_set())
        except* _ForgottenError:
            again = True
            log.warning("run_retold", run=str(self.run))
        except* OSError as errors:
            again = await self._until_mended(lacking(errors))
        return again

    async def _until_mended(self, error: OSError) -> bool:
        """The containers go on while this host lacks something; the lease is kept, and all is read again."""
        pace = self._station.pace
        self._lacks += 1
        log.error("host_lacks_something", run=str(self.run), error=str(error))
        if self._lacks > pace.mend / pace.renew:
            await self.give_up(f"The host of the run lacks something: {error.strerror}.")
            return False
        await asyncio.sleep(pace.renew)
        return (await self._claim()).standing not in GONE

    async def _claim(self) -> Claim:
        claim = await self._station.leases.claim(self.run)
        self._unknown = claim.standing is Standing.DISOWNED
        if claim.standing is Standing.CANCEL:
            self.command(Command(id="", run=self.run, kind="stop"))
        self._server = claim.server or self._server
        return claim

    async def _renew(self) -> NoReturn:
        """Keep the lease, and watch for a standing that ends the run here."""
        while True:
            await self._pause()
            before = self._server
            claim = await self._claim()
            if claim.standing in GONE:
                raise _GoneError
            if claim.standing is Standing.UNKNOWN:
                continue
            if not claim.known or before not in {"", self._server}:
                raise _ForgottenError

    async def _until_gone(self) -> Literal[True]:
        try:
            await self._renew()
        except _GoneError:
            return True

    async def _pause(self) -> None:
        pace = self._station.pace
        if self._ended.is_set():
            await asyncio.sleep(pace.poll)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pace.renew):
                await self._ended.wait()

    async def _live(self) -> None:
        await self._outlet.open()
        finished = self._files.read("ending", Finished)
        if finished is None:
            finished = await self._run_to_end()
            self._files.write("ending", finished)
            account(self._station, self.run, finished, self._files.read("started", EventRecord))
        else:
            await self._retell()
        if finished.outcome in {"stopped", "expired"} and not self._files.is_kept_aside():
            await self._try_to_remove_sandbox()
        await self._hand_in_transcript()
        await self._outlet.put([self._last(finished)])
        await self._outlet.flush()
        self._ended.set()

    async def _run_to_end(self) -> Finished:
        try:
            over = await outlast(
                self._run,
                look=self._leftovers,
                stopping=lambda: self._stopping,
                pace=self._station.pace,
            )
            return over or Finished(outcome="stopped")
        except StaleRunError:
            raise
        except RunnerError as error:
            log.warning("run_failed", run=str(self.run), error=repr(error))
            if isinstance(error, SandboxDiffersError):
                self._files.keep_aside()
                await self._try_to_freeze()
            return failure(error)

    async def _run(self) -> Finished:
        limit, wall = asyncio.timeout(None), 0
        try:
            async with limit:
                self._limit = limit
                if self._stopping:
                    self._stop()
                launch = await self._preparation.launch()
                wall = launch.limits.wall_seconds
                if not self._stopping:
                    limit.reschedule(asyncio.get_running_loop().time() + wall)
                with self._station.tracing.span("prepare", task=self.run.task):
                    prepared = await self._preparation.settle(launch)
                verdict = await self._attend(launch, prepared)
        except TimeoutError:
            if not limit.expired():
                raise
            if self._stopping:
                return Finished(outcome="stopped", reason=_KILLED if self._attached else "")
            return Finished(outcome="expired", reason=f"The run took longer than {wall} seconds.")
        finally:
            self._limit = None
            self._attached = False
        if verdict.changed:
            await self._hand_in(verdict, launch, prepared)
        return verdict

    def _stop(self) -> None:
        """What has begun gets time to keep its work, once, though it be attached only now; else there is none."""
        self._stopping = True
        if self._limit is not None and not self._limit.expired():
            patient = self._has_begun() and len(self._stops) <= 1
            seconds = self._station.pace.keep if patient else 0.0
            now = asyncio.get_running_loop().time()
            self._limit.reschedule(min(now + seconds, self._limit.when() or math.inf))

    def _has_begun(self) -> bool:
        return self._attached or self._files.read("started", EventRecord) is not None

    async def _attend(self, launch: Launch, prepared: Prepared) -> Finished:
        sandbox = self._preparation.open(launch, prepared)
        await self._check_still_there()
        await self._ensure(sandbox)
        self._attached = True
        digest = await sandbox.image_digest()
        with self._files.create("transcript") as transcript:
            attendance = Attendance(
                launch=launch,
                prepared=prepared,
                secrets=self._station.secrets,
                sandbox=sandbox,
                narration=self._preparation.narration(launch, prepared),
                outlet=self._outlet,
                commands=self._commands,
                transcript=transcript,
                pace=self._station.pace,
                began=lambda line: self._began(line, launch, prepared, digest),
                ask=lambda asked: self._station.serve.run_command(self.run, asked),
                stopped=self._stop,
            )
            return await attendance.verdict()

    async def _ensure(self, sandbox: Sandbox) -> None:
        is_new, began = self._files.read("started", EventRecord) is None, time.monotonic()
        with self._station.tracing.span("sandbox.start", task=self.run.task, adopted=not is_new):
            await ensured(sandbox, begun=not is_new, pace=self._station.pace)
        if is_new:
            self._station.meter.sandbox_started(time.monotonic() - began)

    async def _check_still_there(self) -> None:
        """What had begun, or was set aside, is never begun again under the same fence."""
        if self._files.is_kept_aside():
            raise SandboxDiffersError("its containers differ from what was made")
        if self._files.read("started", EventRecord) is None:
            return
        whole = [found for found in await self._leftovers() if len(found.containers) == CONTAINERS]
        if not whole:
            raise SandboxLostError("its containers are gone")

    async def _began(self, line: Line, launch: Launch, prepared: Prepared, digest: str) -> None:
        started = self._files.read("started", EventRecord)
        if started is None:
            event = Started(
                host=self._station.host,
                image=prepared.image,
                image_digest=digest,
                agent=prepared.agent,
                base_commit=prepared.base_commit,
            )
            at = datetime.fromtimestamp(line.at, UTC)
            started = self._record(STARTED_SEQ, at, event)
            self._files.write("started", started)
        await self._outlet.put([started, *self._remarks(prepared, started.at)])
        if self._limit is not None and not self._stopping:
            left = launch.limits.wall_seconds - (self._station.clock() - line.at)
            self._limit.reschedule(asyncio.get_running_loop().time() + max(0.0, left))

    def _remarks(self, prepared: Prepared, at: datetime) -> list[EventRecord]:
        """What was missing when the run was prepared."""
        if not prepared.empty_profiles:
            return []
        names = ", ".join(prepared.empty_profiles)
        text = f"The image {prepared.image} does not say which hosts these profiles mean, so they open none: {names}."
        return [self._record(REMARK_SEQ, at, Remark(text=text))]

    async def _retell(self) -> None:
        """Tell again what was perhaps not sent when the end was written down."""
        launch, prepared = (
            self._files.read("launch", Launch),
            self._files.read("prepared", Prepared),
        )
        started = self._files.read("started", EventRecord)
        if launch is None or prepared is None or started is None:
            return
        await self._outlet.put([started, *self._remarks(prepared, started.at)])
        narration = self._preparation.narration(launch, prepared)
        for role, line in self._files.told():
            await self._outlet.put(narration.feed(role, line))

    async def _hand_in(self, verdict: Finished, launch: Launch, prepared: Prepared) -> None:
        sandbox, base = self._preparation.open(launch, prepared), prepared.base_commit
        with self._files.create("bundle") as file:
            async for piece in sandbox.bundle(base=base, branch=launch.branch):
                file.write(piece)
        bundle = self._files.file("bundle")
        await self._station.serve.put_bundle(self.run, bundle, head=verdict.head, base=base)

    async def _hand_in_transcript(self) -> None:
        packed = await asyncio.to_thread(self._files.packed_transcript)
        try:
            async with asyncio.timeout(self._station.pace.mend):
                await self._station.serve.put_transcript(self.run, packed)
        except (ServeUnavailableError, TimeoutError) as error:
            # The run's end matters more than its record.
            log.warning("transcript_not_taken", run=str(self.run), error=repr(error))

    async def _leftovers(self) -> list[Leftover]:
        station = self._station
        found = await station.backend.leftovers(
            installation=station.installation, host=station.host
        )
        return [leftover for leftover in found if leftover.run == self.run]

    async def _try_to_remove_sandbox(self) -> bool:
        """False leaves it to the next sweep, which finds the run by its directory and in `mine`."""
        try:
            for leftover in await self._leftovers():
                await self._station.backend.discard(leftover)
        except RunnerError as error:
            log.warning("sandbox_not_removed", run=str(self.run), error=repr(error))
            return False
        return True

    def _last(self, finished: Finished) -> EventRecord:
        return self._record(FINISHED_SEQ, datetime.now(UTC), finished)

    def _record(self, seq: int, at: datetime, event: Event) -> EventRecord:
        return EventRecord(run=self.run, source="worker", seq=seq, at=at, event=event)
