"""One sandbox, from its start to the session's verdict: lines in, lines out."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Literal

from pydantic import SecretStr

from runner.errors import SandboxAwayError, SandboxLostError
from runner.guard import allow_message, policy_message
from runner.inside.wire import FULL, TOTAL_BYTES
from runner.narration import COMMAND_KEY, POLICY_KEY, SETTLE_KEY, Narration
from runner.outlet import Outlet
from runner.protocol import Answered, Asked, Command, Finished, Launch
from runner.rundir import Prepared, transcript_line
from runner.sandbox import Line, Role, Sandbox
from runner.station import Pace

_TOO_MUCH: Final = (
    f"The agent printed more than a run may ({TOTAL_BYTES // 1024**2} MiB of protocol, commands' output and errors), and was ended. "
    "Asking again starts over; a command that prints a lot should write to a file."
)
_KILLED = 137


@dataclass(slots=True, kw_only=True)
class Attendance:
    """May begin anywhere: transcripts are read from their first line, and lines are safe to send again."""

    launch: Launch
    prepared: Prepared
    secrets: Mapping[str, SecretStr] = field(repr=False)
    sandbox: Sandbox
    narration: Narration
    outlet: Outlet
    commands: asyncio.Queue[Command]
    transcript: BinaryIO
    """Where a copy of all lines goes."""
    pace: Pace
    began: Callable[[Line], Awaitable[None]]
    """Called with the first line of the agent's container, before anything is told of it."""
    ask: Callable[[Asked], Awaitable[Answered]]
    """Has a command run by `serve`."""
    stopped: Callable[[], None]
    """Called while the session waits for a stopped agent to answer."""
    _sent: set[str] = field(default_factory=set)
    _asks: asyncio.Queue[tuple[int, Asked]] = field(default_factory=asyncio.Queue)
    _deaf: bool = False
    """The agent's container takes no more lines; its transcript may still hold some."""

    async def verdict(self) -> Finished:
        """How the run ended.

        Raises:
            SandboxLostError: a container ended before its time.
        """
        try:
            async with asyncio.TaskGroup() as group:
                others = [
                    group.create_task(self._guard()),
                    group.create_task(self._watch("acceptor")),
                    group.create_task(self._pass_on()),
                    group.create_task(self._broker()),
                ]
                spent = group.create_task(self.narration.exhausted.wait())
                verdict = await self._ended(group.create_task(self._attend()), spent)
                if verdict.changed:
                    verdict = await self._handed_in(verdict)
                await self._settle()
                for task in others:
                    task.cancel()
        except ExceptionGroup as errors:
            raise _first(errors) from errors
        return self._within_budget(verdict)

    async def _ended(
        self, attending: asyncio.Task[Finished], spent: asyncio.Task[Literal[True]]
    ) -> Finished:
        """The session's verdict. Once the budget is used up it gets a grace to come, and is not waited for."""
        await asyncio.wait({attending, spent}, return_when=asyncio.FIRST_COMPLETED)
        if not attending.done():
            await asyncio.wait({attending}, timeout=self.pace.grace)
        spent.cancel()
        if attending.done():
            return attending.result()
        attending.cancel()
        return Finished(outcome="failed")

    async def _attend(self) -> Finished:
        session = self.narration.session
        async with aclosing(self._lines("agent")) as lines:
            async for line in lines:
                if line.n == 1:
                    await self.began(line)
                await self.outlet.put(self.narration.feed("agent", line))
                if session.verdict is not None:
                    return session.verdict
                if session.stopping:
                    self.stopped()
                await self._send_pending()
        return await self._died()

    async def _send_pending(self) -> None:
        fresh = [o for o in self.narration.session.pending() if o.key not in self._sent]
        if not fresh or self._deaf:
            return
        await self._limited(self.narration.guarded, "the gateway did not take its policy")
        for out in fresh:
            try:
                await self.sandbox.send("agent", key=out.key, to=out.to, msg=out.msg)
            except SandboxAwayError:
                raise
            except SandboxLostError:
                # The transcript may end with the reason: read it to its end.
                self._deaf = True
                return
            self._sent.add(out.key)

    async def _pass_on(self) -> None:
        """Give people's commands to the container that they are for; its transcript confirms them."""
        while True:
            command = await self.commands.get()
            key = f"{COMMAND_KEY}{command.id}"
            if key in self._sent:
                continue
            if command.opening is not None:
                await self.narration.guarded.wait()
            role, msg = _message(command)
            try:
                await self.sandbox.send(role, key=key, to="init", msg=msg)
            except SandboxAwayError:
                raise
            except SandboxLostError:
                return
            self._sent.add(key)

    async def _broker(self) -> None:
        """After a re-attach, questions are asked again: they only read, and the gateway takes the first answer."""
        while True:
            ident, asked = await self._asks.get()
            answered = await self.ask(asked)
            msg = {"do": "answer", "id": ident, **answered.model_dump(mode="json")}
            try:
                await self.sandbox.send("gateway", key=f"answer:{ident}", to="init", msg=msg)
            except SandboxAwayError:
                raise
            except SandboxLostError:
                return

    async def _guard(self) -> None:
        try:
            await self._send_policy()
        except SandboxAwayError:
            raise
        except SandboxLostError:
            pass  # a gateway that has ended takes no policy, and its transcript says why it ended
        await self._watch("gateway")

    async def _watch(self, role: Role) -> None:
        async with aclosing(self._lines(role)) as lines:
            async for line in lines:
                await self.outlet.put(self.narration.feed(role, line))
                if role == "gateway" and line.kind == "ask":
                    self._asks.put_nowait(_asked(line))
                if line.kind == "fatal":
                    reason = (line.model_extra or {}).get("reason")
                    raise SandboxLostError(f"the {role} gave up: {reason}")
        raise SandboxLostError(await self._how(role))

    async def _send_policy(self) -> None:
        policy = policy_message(
            self.launch,
            base_commit=self.prepared.base_commit,
            profiles=self.prepared.hosts,
            secrets=self.secrets,
        )
        await self.sandbox.send("gateway", key=POLICY_KEY, to="init", msg=policy)

    async def _handed_in(self, verdict: Finished) -> Finished:
        """The gate's word on what was pushed counts, not the agent's container's."""
        await self._limited(self.narration.accepted, "the gateway did not tell of the push")
        return verdict.model_copy(update={"head": self.narration.head})

    async def _settle(self) -> None:
        """Wait until all has been told that the gateway wrote before: the cost of the last call is there."""
        with contextlib.suppress(SandboxLostError, TimeoutError):
            await self.sandbox.send("gateway", key=SETTLE_KEY, to="init", msg={"do": "note"})
            async with asyncio.timeout(self.pace.guard):
                await self.narration.settled.wait()

    def _within_budget(self, verdict: Finished) -> Finished:
        """What was done without all the calls that it needed is not published."""
        if not self.narration.exhausted.is_set() or verdict.outcome in {"stopped", "expired"}:
            return verdict
        reason = (
            f"The budget of ${self.launch.limits.cost_usd:.2f} is used up, and nothing was published. Asking again "
            "starts over with a new budget; whoever edits the policy can raise `limits.cost_usd`."
        )
        said = {"summary": verdict.summary, "tail": verdict.tail, "checks": verdict.checks}
        return Finished(outcome="failed", reason=reason, **said)

    async def _limited(self, event: asyncio.Event, otherwise: str) -> None:
        try:
            async with asyncio.timeout(self.pace.guard):
                await event.wait()
        except TimeoutError:
            raise SandboxLostError(otherwise) from None

    async def _lines(self, role: Role) -> AsyncGenerator[Line, None]:
        lines = self.sandbox.follow(role)
        try:
            async for line in lines:
                self.transcript.write(transcript_line(role, line))
                yield line
        finally:
            await _close(lines)

    async def _died(self) -> Finished:
        session = self.narration.session
        if session.stopping:
            return Finished(outcome="stopped")
        if session.fatal:
            if session.fatal == FULL:
                return Finished(outcome="failed", reason=_TOO_MUCH)
            reason = f"The agent's container ended itself: {session.fatal}."
            return Finished(outcome="failed", reason=reason, infrastructure=True)
        raise SandboxLostError(await self._how("agent"))

    async def _how(self, role: Role) -> str:
        status = await self.sandbox.exit_status(role)
        hint = ": out of memory, or killed" if status == _KILLED else ""
        return f"the {role}'s container ended with status {status}{hint}"


def _asked(line: Line) -> tuple[int, Asked]:
    fields = line.model_extra or {}
    return int(fields["id"]), Asked(tool=fields["tool"], argv=tuple(fields["argv"]))


def _message(command: Command) -> tuple[Role, dict[str, Any]]:
    if command.opening is not None:
        return "gateway", allow_message(command.opening)
    msg = {"do": "note", "kind": command.kind, "text": command.text}
    if command.answer is not None:
        said = command.answer
        msg |= {"text": said.as_word(), "question": said.question.id, "answer": said.text}
    return "agent", msg


async def _close(lines: AsyncIterator[Line]) -> None:
    if isinstance(lines, AsyncGenerator):
        await lines.aclose()


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    error: Exception = errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
