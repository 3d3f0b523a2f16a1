"""`errand audit`: the record of decisions."""

import typer

from bot import auditfiles
from bot.cli.database import with_store
from bot.cli.output import EXIT_FAILED, complain, say
from bot.settings import load_settings
from bot.store import audit
from bot.store.audit import AuditReport, Checkpoint
from bot.store.engine import Store

app = typer.Typer(help="The audit record.", no_args_is_help=True, add_completion=False)


@app.callback()
def _audit() -> None:
    """The audit record."""


@app.command("verify")
def verify() -> None:
    """Check the chain of hashes from the first row to the last, and files that hold its older part."""
    settings = load_settings()

    async def work(store: Store) -> tuple[AuditReport, list[Checkpoint]]:
        async with store.read() as conn:
            return await audit.verify(conn), await audit.checkpoints(conn)

    report, cuts = with_store(settings, work)
    faults = auditfiles.verify(settings.data_dir / auditfiles.FOLDER, cuts)
    for file, fault in faults.items():
        if fault:
            complain(f"{file}: {fault}")
    if report.broken_at is not None:
        complain(f"the record is broken at row {report.broken_at}: {report.reason}")
    if report.broken_at is not None or any(faults.values()):
        raise typer.Exit(EXIT_FAILED)
    if report.checkpoint is not None:
        say(f"rows 1 to {report.checkpoint.upto} are in {len(cuts)} files, unbroken")
    say(f"{report.rows} rows, unbroken")
