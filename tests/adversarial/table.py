"""The table of cases in docs/security.md. Run: python -m tests.adversarial.table"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.adversarial import heads, loading, patience, probes, pushes, ways
from tests.adversarial.case import Case

PAGE: Final = Path(__file__).parents[2] / "docs" / "security.md"
_AREAS: Final = (
    ("The container", (*probes.CASES, *probes.MORE)),
    ("Reading requests", heads.CASES),
    ("Where connections lead, and with what", ways.CASES),
    ("Time, numbers, no policy", patience.CASES),
    ("Policies and settings", (*loading.POLICIES, *loading.SETTINGS)),
    ("Git", (*pushes.REFUSED, *pushes.TAKEN, pushes.CONFIG, pushes.HOOKS, *pushes.REST)),
)
_BLOCK: Final = re.compile(r"(?<=<!-- cases -->\n).*(?=<!-- /cases -->)", re.DOTALL)


def cases() -> Iterator[Case]:
    for _, found in _AREAS:
        yield from found


def table() -> str:
    lines = ["| attempt | what happens | in the record |", "|---|---|---|"]
    for area, found in _AREAS:
        lines.append(f"| **{area}** | | |")
        lines += [f"| {_cell(c.tried)} | {_cell(c.must)} | {_cell(_recorded(c))} |" for c in found]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table as it must be."""
    return _BLOCK.sub(lambda _: table(), text)


def _recorded(case: Case) -> str:
    tries = getattr(case, "tries", ())
    reasons = [case.record] if case.record else []
    reasons += [attempt.record for attempt in tries if attempt.record]
    denied = [f"*{reason}*" for reason in dict.fromkeys(reasons) if reason]
    if not tries:
        return case.record
    allowed = any(attempt.verdict == "allow" for attempt in tries)
    return ", ".join([*(["an allowed request"] if allowed else []), *denied]) or "a denial"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
