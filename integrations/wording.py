"""How replies are put in words, the same in every channel: pure."""

import re
from dataclasses import dataclass

from integrations.channel import Card, Check, FileChange, Final, StepState

STEP_SIGNS = {
    StepState.PENDING: "○",
    StepState.RUNNING: "▸",
    StepState.DONE: "✓",
    StepState.FAILED: "✗",
}
OUTCOMES = {
    "succeeded": "Done",
    "unchanged": "Nothing to change",
    "failed": "Failed",
    "stopped": "Stopped",
}
MAX_CHECKS = 5
STOP_HINT = "reply `stop` to stop"
_ENDED_SIGNS = {"done": "✓", "failed": "✗"}

# Escape sequences first: they are made of a control character and harmless-looking letters.
# Then what is left of C0 and C1 (but \n and \t), bidirectional overrides, and lone surrogates.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """Text without terminal escapes, control characters and what makes letters change places."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


_SECRETS = re.compile(
    r"xox[a-z]-[A-Za-z0-9-]{10,}"
    r"|xapp-[A-Za-z0-9-]{10,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}"
    r"|sk-[A-Za-z0-9_-]{20,}"
    r"|lin_(?:api|oauth|wh)_[A-Za-z0-9]{20,}"
    r"|AKIA[0-9A-Z]{16}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)


def masked(text: str) -> str:
    """Text without what looks like somebody's credential."""
    return _SECRETS.sub("•••", text)


def one_line(text: str) -> str:
    return " ".join(clean(text).split())


def duration(seconds: int) -> str:
    minutes, rest = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def money(usd: float) -> str:
    return "<$0.01" if 0 < usd < 0.005 else f"${usd:.2f}"  # noqa: PLR2004  half a cent rounds to none


def state_sign(card: Card) -> str:
    return "●" if card.live else _ENDED_SIGNS.get(card.state, "■")


def state_facts(card: Card) -> list[str]:
    """State, elapsed time and cost, as far as they are known."""
    facts = [card.state]
    if card.elapsed_seconds is not None:
        facts.append(duration(card.elapsed_seconds))
    if card.cost_usd is not None:
        facts.append(money(card.cost_usd))
    return facts


def card_places(card: Card) -> list[str]:
    """Repository and agent, as far as they are known."""
    reason = f" ({card.repo_reason})" if card.repo_reason else ""
    return [part for part in (f"{card.repo}{reason}" if card.repo else "", card.agent) if part]


def outcome(final: Final) -> str:
    link = "in" if final.outcome == "succeeded" else "after"
    return f"{OUTCOMES[final.outcome]} {link} {duration(final.elapsed_seconds)}"


def pull_words(final: Final) -> str:
    return f"Open pull request {one_line(final.pull_label)}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalFacts:
    """The figures of a final message; `hidden` counts the checks that are not named."""

    changes: str
    checks: tuple[Check, ...]
    hidden: int
    cost: str
    asked_by: str


def file_lines(change: FileChange) -> str:
    if change.added is None or change.removed is None:
        return "binary"
    return f"+{change.added} −{change.removed}"  # noqa: RUF001  as below


def final_facts(final: Final) -> FinalFacts:
    noun = "file" if final.files == 1 else "files"
    diff = f"+{final.added} −{final.removed}"  # noqa: RUF001  a true minus is as wide as the plus
    first = sorted(final.checks, key=lambda check: check.passed)[:MAX_CHECKS]
    return FinalFacts(
        changes=f"{final.files} {noun}, {diff}" if final.files else "",
        checks=tuple(first),
        hidden=len(final.checks) - len(first),
        cost=money(final.cost_usd) if final.cost_usd is not None else "",
        asked_by=final.asked_by,
    )
