"""What a session has to tell: events while it goes, a verdict at its end."""

from typing import Final, Literal

from runner.protocol import (
    CheckResult,
    CommandSeen,
    Event,
    Finished,
    Phase,
    Question,
    QuestionClosed,
    Remark,
    Said,
    StepStatus,
)
from runner.steps import Check

TAIL_CHARACTERS: Final = 4_000
DETAIL_CHARACTERS: Final = 300
MOST_EVENTS: Final = 10_000
"""What an agent tells beyond this stands in its transcript only: a flood must not hold up what other runs tell."""
_ALWAYS_TOLD: Final = (Phase, CommandSeen, Question, QuestionClosed)
"""What others wait for."""

PhaseName = Literal["prepare", "setup", "agent", "verify", "repair", "commit", "push"]


class Report:
    def __init__(self) -> None:
        self.verdict: Finished | None = None
        self.checks: list[Check] = []
        """How the last round of checks went."""
        self.noise = ""
        """The end of what the agent wrote beside its protocol."""
        self._events: list[Event] = []
        self._summary = ""
        self._told = 0

    def take(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def tell(self, event: Event) -> None:
        if isinstance(event, Said):
            self._summary = event.text
        if not isinstance(event, _ALWAYS_TOLD):
            self._told += 1
            if self._told > MOST_EVENTS:
                return
            if self._told == MOST_EVENTS:
                event = Remark(text=f"{MOST_EVENTS} events were told; its transcript has the rest")
        self._events.append(event)

    def heard(self, noise: str) -> None:
        self.noise = f"{self.noise}{noise}\n"[-TAIL_CHARACTERS:]

    def phase(
        self, name: PhaseName, status: StepStatus, *, detail: str = "", tail: str = ""
    ) -> None:
        cut = detail[:DETAIL_CHARACTERS]
        self.tell(Phase(name=name, status=status, detail=cut, tail=tail[-TAIL_CHARACTERS:]))

    def done(self, *, head: str) -> None:
        """`head` is what was handed in; empty if there was nothing to hand in."""
        self.verdict = Finished(
            outcome="done",
            changed=bool(head),
            head=head,
            summary=self._summary,
            checks=self._results(),
        )

    def stopped(self, *, head: str = "", reason: str = "") -> None:
        """`head` is what was handed in of what there was; `reason` says why that was not kept."""
        self.verdict = Finished(
            outcome="stopped",
            changed=bool(head),
            head=head,
            summary=self._summary,
            reason=reason,
            checks=self._results(),
        )

    def fail(
        self, phase: PhaseName, reason: str, *, tail: str, detail: str = "", ours: bool = False
    ) -> None:
        """The run ends in this phase. `ours` says that another attempt may go better."""
        self.phase(phase, StepStatus.FAILED, detail=detail or reason, tail=tail)
        self.end_failed(reason, tail=tail, ours=ours)

    def end_failed(self, reason: str, *, tail: str, ours: bool = False) -> None:
        self.verdict = Finished(
            outcome="failed",
            summary=self._summary,
            reason=reason,
            tail=tail[-TAIL_CHARACTERS:],
            checks=self._results(),
            infrastructure=ours,
        )

    def _results(self) -> tuple[CheckResult, ...]:
        return tuple(CheckResult(command=c.command, passed=c.status == 0) for c in self.checks)
