"""The names of everything in Redis, and how jobs are written: the same words for `serve` and `work`."""

import json
from typing import Any
from urllib.parse import urlsplit

LAUNCH = "launch.v1"
"""The arq function; a new version of its arguments gets a new name."""

EVENTS = "er:ev"
"""Stream of `EventRecord`s in field `r`, read by group `ctl`."""


def run_queue(pool: str) -> str:
    return f"er:q:run:{pool}"


def task(task_id: str) -> str:
    """Hash: fence, state (live, cancel, done), `owner:<fence>`, `ack:<fence>:<source>`, `disowned:<fence>`."""
    return f"er:t:{task_id}"


def lease(task_id: str) -> str:
    return f"er:lease:{task_id}"


def host(name: str) -> str:
    return f"er:host:{name}"


def mine(name: str) -> str:
    """Set of `<task>:<fence>` that a host has claimed and not yet cleaned up."""
    return f"er:mine:{name}"


def commands(name: str) -> str:
    """Stream of `Command`s in field `c` for one host."""
    return f"er:cmd:{name}"


def serialize(value: dict[str, Any]) -> bytes:
    """JSON in place of arq's pickle: who can write to Redis must not run code in a worker."""
    return json.dumps(value, default=str).encode()


def deserialize(value: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(value)
    return loaded


def safe_url(url: str) -> str:
    """The URL without a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
