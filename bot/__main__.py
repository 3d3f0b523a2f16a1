"""`errand`: the command line."""

import signal
import sys
from collections.abc import Iterator

from bot.cli import app
from bot.cli.output import EXIT_SETUP, complain
from bot.errors import BotError
from bot.observability import set_up_logs
from integrations.errors import IntegrationError
from policies.errors import PolicyError
from runner.errors import RunnerError

OURS = (BotError, IntegrationError, PolicyError, RunnerError)


def main() -> None:
    """Run the command line; what the operator can mend is told in a sentence, not a traceback."""
    # Most modules are still to be imported: no trace for a Ctrl-C while they are.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    set_up_logs(json=None, level="warning")
    wrong: list[str] = []
    try:
        app()
    except* OURS as group:  # a task group's, or a single one
        wrong += dict.fromkeys(str(error) for error in _leaves(group))
    for sentence in wrong:
        complain(sentence)
    if wrong:
        sys.exit(EXIT_SETUP)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()
