"""`errand policy`: who may do what, as a file says it."""

from pathlib import Path
from typing import Annotated

import typer

from bot.cli.output import say
from bot.errors import SettingsError
from bot.settings import load_settings
from policies.load import load_policy

app = typer.Typer(help="The policy.", no_args_is_help=True, add_completion=False)


@app.callback()
def _policy() -> None:
    """The policy."""


@app.command("check")
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The policy file; ERRAND_POLICY_FILE if not given.")
    ] = None,
) -> None:
    """Say whether a policy file can be used, and what is wrong with it."""
    path = file or load_settings().policy_file
    if path is None:
        raise SettingsError("there is no policy to check: name a file, or set ERRAND_POLICY_FILE")
    policy = load_policy(path)
    say(
        f"good: {len(policy.rules)} rules, {len(policy.repos)} repositories, hash {policy.hash[:12]}"
    )
