from tests.support.store import (
    empty_url,
    postgres_database,
    postgres_server,
    postgres_store,
    postgres_template,
    sqlite_template,
    store,
    store_url,
)

__all__ = [
    "empty_url",
    "postgres_database",
    "postgres_server",
    "postgres_store",
    "postgres_template",
    "sqlite_template",
    "store",
    "store_url",
]
