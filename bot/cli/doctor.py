"""`errand doctor`: every part of the chain."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from bot.cli.output import EXIT_FAILED, AsJson, out, print_json
from bot.doctor import Finding, Part, examine
from bot.settings import load_settings
from integrations.wording import clean


def doctor(
    part: Annotated[
        Part, typer.Argument(help="What runs on this machine: `up` is `serve` and `work` in one.")
    ] = "up",
    *,
    as_json: AsJson = False,
) -> None:
    """Check every part of the chain, and say for each failure what to do."""
    findings = asyncio.run(examine(load_settings(), part=part))
    if as_json:
        print_json([f.model_dump() for f in findings])
    else:
        _print_findings(findings)
    if not all(f.ok for f in findings):
        raise typer.Exit(EXIT_FAILED)


def _print_findings(findings: Sequence[Finding]) -> None:
    width = max(len(f.part) for f in findings)
    for finding in findings:
        sign = "[green]✓[/green]" if finding.ok else "[red]✗[/red]"
        text = escape(clean(finding.text))
        out.print(f"{sign} [bold]{finding.part.ljust(width)}[/bold]  {text}", soft_wrap=True)
