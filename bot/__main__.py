"""`errand`: the command line."""

import sys

from bot.cli import app
from bot.cli.output import EXIT_SETUP, complain
from bot.errors import BotError
from bot.store.errors import StoreError
from policies.errors import PolicyError
from runner.errors import RunnerError


def main() -> None:
    """Run the command line; what the operator can mend is told in a sentence, not a traceback."""
    try:
        app()
    except (BotError, PolicyError, StoreError, RunnerError) as error:
        complain(str(error))
        sys.exit(EXIT_SETUP)


if __name__ == "__main__":
    main()
