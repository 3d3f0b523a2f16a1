"""`errand doctor | image | db | config | audit | policy`: looking after an installation."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from bot.cli.output import EXIT_FAILED, complain, out, print_facts, print_json, print_table
from bot.cli.task import with_store
from bot.doctor import Finding, examine
from bot.settings import load_settings
from bot.store import audit
from bot.store.audit import AuditReport
from bot.store.engine import Store
from policies.load import load_policy
from runner.images.build import ensure_image, list_images

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


def doctor(as_json: AsJson = False) -> None:
    """Check every part of the chain, and say for each failure what to do."""
    findings = asyncio.run(examine(load_settings()))
    if as_json:
        print_json([f.model_dump() for f in findings])
    else:
        _print_findings(findings)
    if not all(f.ok for f in findings):
        raise typer.Exit(EXIT_FAILED)


def _print_findings(findings: list[Finding]) -> None:
    for finding in findings:
        sign = "[green]✓[/green]" if finding.ok else "[red]✗[/red]"
        out.print(f"{sign} [bold]{finding.part}[/bold]", end="  ")
        out.print(finding.text, markup=False, soft_wrap=True)


@image_app.command("build")
def image_build(
    name: Annotated[str, typer.Argument(help="default, or claude-code.")] = "default",
) -> None:
    """Build an image, from a registry's base or from one made on this machine. Safe twice."""
    tag = ensure_image(name, progress=lambda line: out.print(line, markup=False))
    out.print(tag, markup=False)


@image_app.command("list")
def image_list(as_json: AsJson = False) -> None:
    """The images that were built here."""
    images = list_images()
    if as_json:
        print_json([asdict(image) for image in images])
        return
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

    out.print(f"at revision {with_store(load_settings(), work)}")


@config_app.command("show")
def config_show(as_json: AsJson = False) -> None:
    """The settings in force; secrets are masked."""
    settings = load_settings()
    shown = _masked(settings.model_dump())
    shown["database_url"] = (
        settings.database if not settings.database_url else _masked_url(settings.database_url)
    )
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


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (
                "off" if inner is None and key in {"slack", "github"} else inner
            )
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
    out.print(f"{report.rows} rows, unbroken")


@policy_app.command("check")
def policy_check(file: Annotated[Path, typer.Argument(help="The policy file.")]) -> None:
    """Say whether a policy file can be used, and what is wrong with it."""
    policy = load_policy(file)
    out.print(
        f"good: {len(policy.rules)} rules, {len(policy.repos)} repositories, hash {policy.hash[:12]}"
    )
