"""`errand serve`: imports nothing of `work`, so that it starts quickly."""

from bot.cli.process import run_process
from bot.wiring import serve as run_services


def serve() -> None:
    """HTTP, channels, dispatch, publication, replies. Holds no Docker socket."""
    run_process(run_services)
