"""What is tried, what must happen, and what the record of the run says of it: the rows of the table in docs/security.md."""

from dataclasses import dataclass

NOTHING = "nothing reached the gateway"
"""For what must not get so far that there would be anything to record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    id: str
    """Its area, a number, and a letter where several are one attack in other words."""
    tried: str
    must: str
    record: str
    """Part of the reason of the line in the record, or a sentence where no line can be."""
