"""What adapters must remember, encrypted in the database: the key is not in it."""

from collections.abc import Callable
from datetime import datetime

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from bot.errors import SetupError
from bot.intake import utc_now
from bot.store import secrets
from bot.store.engine import Store


class Vault:
    """`integrations.notes.Notes`, in SQL. Errors: `StoreError`'s leaves, and `SetupError` for a wrong key."""

    def __init__(
        self, store: Store, key: SecretStr, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        """Raises SetupError if the key is none."""
        self._store = store
        try:
            self._cipher = Fernet(key.get_secret_value())
        except ValueError:
            raise SetupError(
                "ERRAND_VAULT_KEY is not 32 bytes in URL-safe base64: make one with"
                " `openssl rand -base64 32 | tr +/ -_`"
            ) from None
        self._now = now

    async def get(self, name: str) -> str | None:
        async with self._store.read() as conn:
            sealed = await secrets.get(conn, name)
        return None if sealed is None else self._open(sealed)

    async def put(self, name: str, value: str) -> None:
        async with self._store.begin() as tx:
            await secrets.put(tx, name, self._seal(value), now=self._now())

    async def swap(self, name: str, old: str | None, new: str | None) -> bool:
        async with self._store.begin() as tx:
            sealed = await secrets.get(tx, name)
            if (None if sealed is None else self._open(sealed)) != old:
                return False
            if sealed is None:
                return new is None or await secrets.create(
                    tx, name, self._seal(new), now=self._now()
                )
            if new is None:
                return await secrets.remove(tx, name, old=sealed)
            return await secrets.replace(tx, name, old=sealed, new=self._seal(new), now=self._now())

    async def names(self, prefix: str) -> list[str]:
        async with self._store.read() as conn:
            return await secrets.names(conn, prefix=prefix)

    def _seal(self, value: str) -> str:
        return self._cipher.encrypt(value.encode()).decode()

    def _open(self, sealed: str) -> str:
        try:
            return self._cipher.decrypt(sealed).decode()
        except InvalidToken:
            raise SetupError(
                "what the database keeps for the channels was encrypted with another key: bring back the file"
                " vault.key of the data directory (or ERRAND_VAULT_KEY), or connect the channels anew"
            ) from None
