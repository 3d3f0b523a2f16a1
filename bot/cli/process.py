"""What begins every process of an installation."""

from collections.abc import Callable, Coroutine
from typing import Any

from bot.observability import set_up_logs
from bot.settings import Settings, load_settings
from bot.signals import run_until_signalled


def run_process(main: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    """Run it with the settings, and with logs as they say, until it ends or a signal ends it."""
    settings = load_settings()
    set_up_logs(json=settings.log_json)
    run_until_signalled(main(settings))
