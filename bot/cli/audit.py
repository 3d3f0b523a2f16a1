"""`errand audit`: the record of decisions."""

import typer

from bot.cli.database import with_store
from bot.cli.output import EXIT_FAILED, complain, say
from bot.settings import load_settings
from bot.store import audit
from bot.store.audit import AuditReport
from bot.store.engine import Store

app = typer.Typer(help="The audit record.", no_args_is_help=True, add_completion=False)


@app.callback()
def _audit() -> None:
    """The audit record."""


@app.command("verify")
def verify() -> None:
    """Check the chain of hashes from the first row to the last."""

    async def work(store: Store) -> AuditReport:
        async with store.read() as conn:
            return await audit.verify(conn)

    report = with_store(load_settings(), work)
    if report.broken_at is not None:
        complain(f"the record is broken at row {report.broken_at}: {report.reason}")
        raise typer.Exit(EXIT_FAILED)
    say(f"{report.rows} rows, unbroken")
