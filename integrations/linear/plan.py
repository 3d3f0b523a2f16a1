"""A card's steps become a session's plan: pure."""

from collections.abc import Sequence

from integrations.channel import Step, StepState
from integrations.linear.markup import written_line

Plan = list[dict[str, str]]

STATUSES = {
    StepState.PENDING: "pending",
    StepState.RUNNING: "inProgress",
    StepState.DONE: "completed",
    StepState.FAILED: "canceled",
}
MAX_ENTRIES = 40
STEP = 200


def plan_of(steps: Sequence[Step]) -> Plan:
    """Linear replaces the plan whole, so it is given whole."""
    entries = [
        {"content": written_line(step.title, STEP) or "…", "status": STATUSES[step.state]}
        for step in steps[:MAX_ENTRIES]
    ]
    if (hidden := len(steps) - MAX_ENTRIES) > 0:
        entries.append({"content": f"{hidden} more", "status": "pending"})
    return entries
