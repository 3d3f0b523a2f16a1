"""`errand policy`: who may do what, as a file says it."""

from pathlib import Path
from typing import Annotated

import typer

from bot.cli.output import EXIT_FAILED, AsJson, print_facts, print_json, say
from bot.errors import SettingsError
from bot.explain import explain as explained
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


@app.command("explain")
def explain(
    repo: Annotated[str, typer.Option(help="One that the policy describes.")],
    url: Annotated[str, typer.Option(help="What a run would ask for.")],
    method: Annotated[str, typer.Option(help="How it would ask.")] = "GET",
    file: Annotated[
        Path | None, typer.Option(help="The policy file; ERRAND_POLICY_FILE if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run's gateway would decide, by which rule, and why. Exit code 1 if it would deny."""
    settings = load_settings(policy_file=file) if file else load_settings()
    found = explained(settings, repo=repo, url=url, method=method)
    if as_json:
        print_json(found.model_dump())
    else:
        print_facts(found.model_dump(exclude_defaults=True))
    raise typer.Exit(0 if found.verdict == "allow" else EXIT_FAILED)
