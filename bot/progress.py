"""Many events become one card and one final message: pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from bot.states import TERMINAL, TaskState
from bot.store.rows import RunRow, TaskRow
from integrations.channel import Card, Check, FileChange, Final, Step, StepState
from runner.protocol import (
    Egress,
    Event,
    Finished,
    Phase,
    Plan,
    Question,
    QuestionClosed,
    Said,
    Started,
    StepStatus,
    ToolCall,
    Usage,
)

STATE_WORDS = {
    TaskState.QUEUED: "queued",
    TaskState.STARTING: "starting",
    TaskState.RUNNING: "working",
    TaskState.WAITING: "waiting for you",
    TaskState.PUBLISHING: "publishing",
    TaskState.STOPPING: "stopping",
    TaskState.KEEPING: "stopping",
    TaskState.SUCCEEDED: "done",
    TaskState.FAILED: "failed",
    TaskState.STOPPED: "stopped",
    TaskState.EXPIRED: "out of time",
}
PHASE_WORDS = {
    "prepare": "fetching the repository",
    "setup": "setting up",
    "agent": "the agent is at work",
    "verify": "verifying",
    "repair": "repairing what verification found",
    "commit": "committing",
    "push": "handing the commits in",
}
MAX_STEPS = 30
MAX_DENIED = 10
MAX_FILES = 50
"""So many of the changed files are named."""
MAX_PATH = 300


class View(BaseModel):
    """What a card is made from: a fold over the events of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: str = ""
    plan: tuple[Step, ...] = ()
    checks: tuple[Step, ...] = ()
    doing: str = ""
    said: str = ""
    metered: bool = False
    """Tokens and cost are those that the gateway counted."""
    cost_usd: float | None = None
    counted_usd: float | None = None
    """What counts against the budget."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    denied: tuple[str, ...] = ()
    question: Question | None = None
    """What the agent has asked people, and waits for."""


def advance(view: View, event: Event) -> View:
    """The view after one more event."""
    return view.model_copy(update=_news(view, event))


def spent_in(round_: int, runs: Iterable[RunRow]) -> float:
    """What these runs have used of the budget of a round."""
    views = [View.model_validate(run.view) for run in runs if run.round == round_]
    return sum(view.counted_usd or 0.0 for view in views)


def _news(view: View, event: Event) -> dict[str, object]:
    match event:
        case Phase():
            return _phase(view, event)
        case Usage():
            return _usage(view, event)
        case Question() | QuestionClosed():
            return {"question": event if isinstance(event, Question) else None}
        case Egress(verdict="deny", host=host) if host not in view.denied:
            return {"denied": (*view.denied, host)[:MAX_DENIED]}
        case _:
            return _told(event)


def _told(event: Event) -> dict[str, object]:
    match event:
        case Started(agent=agent):
            return {"agent": agent}
        case Plan(entries=entries):
            return {"plan": tuple(Step(title=e.title, state=StepState(e.status)) for e in entries)}
        case ToolCall(title=title, status=StepStatus.PENDING | StepStatus.RUNNING):
            return {"doing": title}
        case Said(text=text):
            return {"said": text}
        case _:
            return {}


def _usage(view: View, event: Usage) -> dict[str, object]:
    """What was counted takes the place of what the agent said of itself, and keeps it."""
    told = event.model_dump(exclude={"kind"})
    if event.metered:
        return told
    return {} if view.metered else {k: v for k, v in told.items() if v is not None}


def _phase(view: View, event: Phase) -> dict[str, object]:
    words = PHASE_WORDS[event.name]
    doing = f"{words}: {event.detail}" if event.detail else words
    update: dict[str, object] = {
        "doing": doing if event.status is StepStatus.RUNNING else view.doing
    }
    if event.name in {"setup", "verify"} and event.detail:
        step = Step(title=f"{event.name}: {event.detail}", state=StepState(event.status))
        others = tuple(s for s in view.checks if s.title != step.title)
        update["checks"] = (*others, step)
    return update


def card(
    task: TaskRow, view: View, *, now: datetime, started_at: datetime | None, note: str = ""
) -> Card:
    """The card of the current round."""
    live = task.state not in TERMINAL
    since = started_at or (task.changed_at if task.state is TaskState.QUEUED else None)
    until = now if live else (task.ended_at or now)
    steps = (*view.plan, *view.checks)
    if len(steps) > MAX_STEPS:
        more = Step(title=f"… {len(steps) - MAX_STEPS} more", state=StepState.PENDING)
        steps = (*steps[:MAX_STEPS], more)
    return Card(
        task=task.id,
        title=task.title,
        repo=task.repo,
        repo_reason=task.repo_reason,
        agent=view.agent,
        state=STATE_WORDS[task.state],
        live=live,
        steps=steps,
        doing=(note or doing(task, view)) if live else "",
        waits=task.state is TaskState.WAITING,
        elapsed_seconds=max(0, int((until - since).total_seconds())) if since else None,
        cost_usd=view.cost_usd,
        url=task.page,
        pull_url=task.pull_url,
    )


def doing(task: TaskRow, view: View) -> str:
    """What goes on now, or what it waits for."""
    if task.waits_for:
        return f"waits for {', '.join(task.waits_for)}"
    if task.state is TaskState.WAITING and view.question is not None:
        return f"asks: {view.question.text.splitlines()[0]}"
    denied = f" · blocked: {', '.join(view.denied)}" if view.denied else ""
    return f"{view.doing}{denied}"


class Published(BaseModel):
    """What a publication adds to the last word."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = ""
    """The pull request's, if there is one."""
    label: str = ""
    changed: tuple[FileChange, ...]

    @property
    def added(self) -> int:
        return sum(change.added or 0 for change in self.changed)

    @property
    def removed(self) -> int:
        return sum(change.removed or 0 for change in self.changed)

    def most(self) -> tuple[FileChange, ...]:
        """So many files as are worth naming, those with most changes first."""
        largest = sorted(self.changed, key=lambda c: (-(c.added or 0) - (c.removed or 0), c.path))
        named = (c.model_copy(update={"path": c.path[:MAX_PATH]}) for c in largest[:MAX_FILES])
        return tuple(named)


def final(
    task: TaskRow,
    view: View,
    finished: Finished,
    *,
    elapsed_seconds: int,
    published: Published | None = None,
) -> Final:
    """The last word of a round."""
    outcome, text = _ending(task, view, finished, published)
    return Final(
        outcome=outcome,
        text=text,
        tail=finished.tail,
        pull_url=published.url if published else "",
        pull_label=published.label if published else "",
        files=len(published.changed) if published else 0,
        added=published.added if published else 0,
        removed=published.removed if published else 0,
        changed=published.most() if published else (),
        checks=tuple(Check(command=c.command, passed=c.passed) for c in finished.checks),
        elapsed_seconds=elapsed_seconds,
        cost_usd=view.cost_usd,
        asked_by=task.requester_name,
        person=task.requester,
        url=task.page,
        review_state=str(task.grant.get("review_state", "")) if outcome == "succeeded" else "",
    )


Outcome = Literal["succeeded", "unchanged", "failed", "stopped"]


def _ending(
    task: TaskRow, view: View, finished: Finished, published: Published | None
) -> tuple[Outcome, str]:
    said = finished.summary or view.said
    match finished.outcome:
        case "done" if published:
            return "succeeded", said or "Done."
        case "done":
            return "unchanged", f"{said}\nNothing changed, so there is no pull request.".strip()
        case "stopped" if published:
            return "stopped", _kept(task)
        case "stopped":
            return "stopped", _lost(task, finished.reason)
        case "expired":
            return "failed", finished.reason or "The time that the policy allows is over."
        case "failed":
            return "failed", finished.reason or "It failed without a reason."


def _kept(task: TaskRow) -> str:
    """Where a stop leaves the work."""
    where = "the pull request's branch" if task.pull_url else "the branch, without a pull request"
    return f"What it had done so far is on {where}: `{task.branch}`. Say what to do, and it goes on from there."


def _lost(task: TaskRow, reason: str) -> str:
    """What a stop leaves where there was nothing to keep, or it could not be kept."""
    if task.pull_url:
        left = "Nothing more was published; the pull request stays as it was."
    else:
        left = "Nothing was published; what was done until then is on this errand's page only."
    return f"{reason}\n{left}".strip()
