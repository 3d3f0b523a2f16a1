"""How commands speak: tables for people, JSON for programs, one exit code per kind of end."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

EXIT_FAILED = 1
"""The command ran and found or caused a failure."""
EXIT_NOT_FOUND = 3
"""What was named does not exist."""
EXIT_SETUP = 4
"""A setting, the policy, the database, Redis or Docker is not as it must be."""

EXIT_CODES = (
    "Exit codes: 0 done; 1 failed, or problems were found; 2 wrong usage; 3 not found; "
    "4 settings, policy or a part of the installation are not as they must be."
)

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def complain(text: str) -> None:
    err.print(f"[red]error:[/red] {escape(text)}")


def print_json(value: Any) -> None:
    """For programs: one JSON document on standard output."""
    out.print(json.dumps(value, indent=2, default=str), markup=False, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        out.print(f"[bold]{escape(name.ljust(width))}[/bold]  {escape(str(value))}", soft_wrap=True)
