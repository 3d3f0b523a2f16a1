"""A backup put back into an empty place."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from bot.alone import alone
from bot.archive import Manifest, unpack
from bot.backup import (
    DATABASE,
    FILES,
    FOLDERS,
    POLICY,
    Contents,
    check_database,
    contents_of,
    database_file,
)
from bot.errors import SetupError
from bot.intake import utc_now
from bot.record import OPERATOR, record
from bot.restored import note_restored
from bot.settings import Settings
from bot.store import outbox, schema
from bot.store.engine import Store
from runner.identity import HOST, sole_worker


def restore(settings: Settings, source: Path) -> Contents:
    """Put a backup where the settings say that the data are, and note in the database that it was one.

    Raises:
        SetupError: there are data already, `serve` uses the place, or the backup is not whole.
        DataDirTakenError: `work` uses the place.
    """
    database = database_file(settings)
    with alone(database), sole_worker(settings.data_dir):
        _be_empty(settings, database)
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=settings.data_dir) as directory:
            scratch = Path(directory)
            manifest = unpack(source, scratch)
            copy = scratch / DATABASE
            _check(source, copy, manifest)
            asyncio.run(_upgrade_and_note(copy, manifest))
            contents = asyncio.run(contents_of(copy, manifest, size=source.stat().st_size))
            for name in (*FOLDERS, *FILES, POLICY):
                if (scratch / name).exists():
                    (scratch / name).replace(settings.data_dir / name)
            if not (settings.data_dir / HOST).exists() and (scratch / HOST).exists():
                (scratch / HOST).replace(settings.data_dir / HOST)
            # The database comes last: without it nothing else counts as data.
            draft = database.with_name(f"{database.name}.draft")
            shutil.copyfile(copy, draft)
            draft.chmod(0o600)
            draft.replace(database)
    return contents


def _be_empty(settings: Settings, database: Path) -> None:
    places = [database, *(database.with_name(f"{database.name}-{end}") for end in ("wal", "shm"))]
    places += [settings.data_dir / name for name in (*FOLDERS, *FILES, POLICY)]
    if there := [str(place) for place in places if place.exists()]:
        raise SetupError(
            f"there are data already ({', '.join(there)}): move them away, or set another ERRAND_DATA_DIR"
        )


def _check(source: Path, copy: Path, manifest: Manifest) -> None:
    if not copy.is_file():
        raise SetupError(f"{source} holds no database")
    if not schema.is_known(manifest.revision):
        raise SetupError(
            f"the schema of {source}, {manifest.revision}, is a newer version's:"
            f" install errand {manifest.errand}"
        )
    check_database(copy)


async def _upgrade_and_note(copy: Path, manifest: Manifest) -> None:
    store = Store(f"sqlite:///{copy}")
    try:
        await store.upgrade()
        await note(store, made_at=manifest.at.isoformat())
    finally:
        await store.close()


async def note(store: Store, *, made_at: str = "") -> None:
    """Numbers of runs are not given twice, and what may have been said since is looked for before it is said."""
    async with store.begin() as tx:
        generation = await note_restored(tx)
        await outbox.doubt(tx)
        await record(
            tx,
            now=utc_now(),
            actor=OPERATOR,
            action="restore",
            generation=generation,
            made_at=made_at,
        )
