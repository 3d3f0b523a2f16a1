"""The schema's versions: Alembic, run from code."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from bot.store.errors import StoreRefusedError, StoreSchemaError

MIGRATIONS = Path(__file__).parent / "migrations"


def head() -> str:
    """The version that this code wants."""
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if newest is None:
        raise FileNotFoundError(MIGRATIONS)
    return newest


def is_known(version: str) -> bool:
    """False for a version that only a newer Errand has."""
    script = ScriptDirectory(str(MIGRATIONS))
    return version in {step.revision for step in script.walk_revisions()}


def revision(connection: Connection) -> str | None:
    """The version that the database has; None if it has no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection) -> None:
    """Bring the schema to `head`, in the transaction of the connection: all of it or nothing."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreSchemaError(revision(connection), head=head()) from error
    _check_references(connection)


def _check_references(connection: Connection) -> None:
    """SQLite's foreign keys are off while tables are rebuilt, so look afterwards."""
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise StoreRefusedError(f"table {broken[0]} refers to rows that are not there")
