"""How commands speak: tables for people, JSON for programs, one exit code per kind of end."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from integrations.wording import clean, one_line

EXIT_FAILED = 1
"""The command ran and found or caused a failure."""
EXIT_NOT_FOUND = 3
"""What was named does not exist."""
EXIT_SETUP = 4
"""A setting, the policy, the database, Redis or Docker is not as it must be."""

PIPE_WIDTH = 1000
"""Where no terminal sets a width, a row stays on its line."""

EXIT_CODES = (
    "Exit codes: 0 done; 1 failed, or problems were found; 2 wrong usage; 3 not found; "
    "4 settings, policy or a part of the installation are not as they must be; 130 Ctrl-C."
)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def complain(text: str) -> None:
    """Say to a person what is wrong; on a line of its own, whatever its length."""
    Console(stderr=True, highlight=False).print(f"[red]error:[/red] {escape(text)}", soft_wrap=True)


def inform(text: str) -> None:
    """Say to a person how far it is; a program reads standard output alone."""
    Console(stderr=True, highlight=False).print(text, markup=False, style="dim", soft_wrap=True)


def say(text: str) -> None:
    """One line on standard output, as it is."""
    out.print(text, markup=False, soft_wrap=True)


def heading(text: str) -> None:
    out.print(f"\n[bold]{escape(text)}[/bold]")


def print_json(value: Any) -> None:
    """For programs: one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A row a line: where the terminal is too narrow, the last column is cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
        table.columns[-1].min_width = 0 if column == columns[-1] else None
    for row in rows:
        table.add_row(*(escape(one_line(str(cell))) for cell in row))
    out.print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        shown = "" if value is None else clean(str(value))
        out.print(f"[bold]{escape(name.ljust(width))}[/bold]  {escape(shown)}", soft_wrap=True)
