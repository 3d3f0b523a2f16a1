"""`errand doctor | image | db | config | audit | policy`: looking after an installation."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from bot.cli.database import with_store
from bot.cli.output import (
    EXIT_FAILED,
    complain,
    inform,
    print_facts,
    print_findings,
    print_json,
    print_table,
    say,
)
from bot.doctor import Part, examine
from bot.errors import SettingsError
from bot.settings import PREFIX, load_settings
from bot.store import audit
from bot.store.audit import AuditReport
from bot.store.engine import Store
from policies.load import load_policy
from runner.images.build import ensure_image, list_images
from runner.images.context import DEFAULT, IMAGES

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]

image_app = typer.Typer(help="Images that agents run in.", no_args_is_help=True)
db_app = typer.Typer(help="The database.", no_args_is_help=True)
config_app = typer.Typer(help="The settings.", no_args_is_help=True)
audit_app = typer.Typer(help="The audit record.", no_args_is_help=True)
policy_app = typer.Typer(help="The policy.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)
    app.add_typer(image_app, name="image")
    app.add_typer(db_app, name="db")
    app.add_typer(config_app, name="config")
    app.add_typer(audit_app, name="audit")
    app.add_typer(policy_app, name="policy")


def doctor(
    part: Annotated[
        Part, typer.Argument(help="What runs on this machine: `up` is `serve` and `work` in one.")
    ] = "up",
    *,
    as_json: AsJson = False,
) -> None:
    """Check every part of the chain, and say for each failure what to do."""
    findings = asyncio.run(examine(load_settings(), part=part))
    if as_json:
        print_json([f.model_dump() for f in findings])
    else:
        print_findings(findings)
    if not all(f.ok for f in findings):
        raise typer.Exit(EXIT_FAILED)


@image_app.command("build")
def image_build(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(IMAGES)}.")] = DEFAULT,
) -> None:
    """Build an image, from a registry's base or from one made on this machine. Safe twice."""
    tag = ensure_image(name, progress=inform, docker_host=load_settings().docker_host)
    say(tag)


@image_app.command("list")
def image_list(as_json: AsJson = False) -> None:
    """The images that were built here."""
    images = list_images(docker_host=load_settings().docker_host)
    if as_json:
        print_json([asdict(image) for image in images])
    elif not images:
        say("no images yet: `errand image build`")
    else:
        print_table(
            ["image", "MB", "current"],
            [(i.tag, i.size // 10**6, "yes" if i.current else "no") for i in images],
        )


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to this version's schema. `serve` and `up` do it by themselves."""

    async def work(store: Store) -> str | None:
        await store.upgrade()
        return await store.revision()

    say(f"at revision {with_store(load_settings(), work, upgraded=False)}")


@config_app.command("show")
def config_show(as_json: AsJson = False) -> None:
    """The settings in force; secrets are masked."""
    settings = load_settings()
    shown = _masked(settings.model_dump())
    shown["database_url"] = _masked_url(settings.database)
    shown["redis_url"] = _masked_url(settings.redis_url) or "embedded"
    if as_json:
        print_json(shown)
        return
    print_facts(_flat(shown))


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, Path) else value


def _masked_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}://{'********' if credentials else ''}{at}{place}" if rest else url


def _flat(value: dict[str, Any], prefix: str = PREFIX) -> dict[str, object]:
    """By the names that the environment has for them."""
    flat: dict[str, object] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}".upper()
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{name}__")
        else:
            flat[name] = "" if inner is None else inner
    return flat


@audit_app.command("verify")
def audit_verify() -> None:
    """Check the chain of hashes from the first row to the last."""

    async def work(store: Store) -> AuditReport:
        async with store.read() as conn:
            return await audit.verify(conn)

    report = with_store(load_settings(), work)
    if report.broken_at is not None:
        complain(f"the record is broken at row {report.broken_at}: {report.reason}")
        raise typer.Exit(EXIT_FAILED)
    say(f"{report.rows} rows, unbroken")


@policy_app.command("check")
def policy_check(
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
