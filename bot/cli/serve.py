"""`errand serve`: imports nothing of `work`, so that it starts quickly."""

from bot.observability import set_up_logs
from bot.settings import load_settings
from bot.signals import run_until_signalled
from bot.wiring import serve as run_services


def serve() -> None:
    """HTTP, channels, dispatch, publication, replies. Holds no Docker socket."""
    settings = load_settings()
    set_up_logs(json=settings.log_json)
    run_until_signalled(run_services(settings))
