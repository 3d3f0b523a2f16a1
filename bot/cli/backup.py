"""`errand backup | restore`: everything that can't be made again, as one file."""

from pathlib import Path
from typing import Annotated

import typer

from bot.backup import POLICY, Contents, back_up
from bot.cli.database import with_store
from bot.cli.output import EXIT_FAILED, AsJson, complain, print_json, say
from bot.restore import note
from bot.restore import restore as put_back
from bot.settings import load_settings
from bot.store.engine import Store

File = Annotated[Path, typer.Argument(help="Ends in .tar.gz, by custom.", dir_okay=False)]


def backup(file: File, as_json: AsJson = False) -> None:
    """Copy database, forge, commits, transcripts and policy into a file, while everything works."""
    contents = back_up(load_settings(), file)
    _show(contents, as_json=as_json, first=f"{file}: {contents.size / 10**6:.1f} MB")


def restore(file: File, as_json: AsJson = False) -> None:
    """Put a backup back into an empty data directory, with everything stopped."""
    settings = load_settings()
    contents = put_back(settings, file)
    made = f"{contents.made_at:%Y-%m-%d %H:%M} UTC"
    _show(contents, as_json=as_json, first=f"restored what was there at {made}")
    policy = settings.data_dir / POLICY
    if not as_json and policy.exists() and settings.policy_file != policy:
        say(f"the policy is at {policy}: set ERRAND_POLICY_FILE")


def restored() -> None:
    """Note that the database was restored from a copy by its own tools. Before `serve` starts; for PostgreSQL."""

    async def work(store: Store) -> None:
        await note(store)

    with_store(load_settings(), work)
    say("noted: no number of a run is given twice, and what waited is looked for before it is said")


def _show(contents: Contents, *, as_json: bool, first: str) -> None:
    if as_json:
        print_json(contents.model_dump(mode="json"))
    else:
        say(first)
        say(f"{contents.files} files, schema {contents.revision}, {contents.audit_rows} audit rows")
        if contents.live:
            say(f"under way: {', '.join(contents.live)}")
    if contents.audit_problem:
        complain(f"the audit record is broken at {contents.audit_problem}")
        raise typer.Exit(EXIT_FAILED)
