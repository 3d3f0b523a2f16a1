"""`errand aside`: sandboxes that were set aside, frozen until a person decides."""

import asyncio
import shutil
from contextlib import closing
from typing import Annotated

import typer

from bot.cli.output import EXIT_NOT_FOUND, AsJson, complain, print_json, print_table, say
from bot.settings import Settings, load_settings
from bot.workshop import open_sandboxes
from runner.protocol import RunKey
from runner.rundir import ASIDE
from runner.sandbox import Leftover

app = typer.Typer(help="Sandboxes that were set aside.", no_args_is_help=True, add_completion=False)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """What was set aside on this Docker host: paused, with everything in it."""
    found = asyncio.run(_found(load_settings()))
    if as_json:
        print_json([sandbox.model_dump() for sandbox in found])
    elif found:
        rows = [(s.run, s.host, ", ".join(s.containers)) for s in found]
        print_table(["run", "host", "containers"], rows)
    else:
        say("nothing was set aside")


@app.command("remove")
def remove(
    run: Annotated[str, typer.Argument(help="As `errand aside list` prints it, or `all`.")],
) -> None:
    """Remove a sandbox that was set aside, and what its worker kept of it. There is no way back."""
    settings = load_settings()
    chosen = [s for s in asyncio.run(_found(settings)) if run in {"all", str(s.run)}]
    if not chosen and run != "all":
        complain(f"no sandbox of run {run} was set aside here: see `errand aside list`")
        raise typer.Exit(EXIT_NOT_FOUND)
    asyncio.run(_discard(settings, chosen))
    for sandbox in chosen:
        shutil.rmtree(_directory(settings, sandbox.run), ignore_errors=True)
        say(f"removed {sandbox.run}")


async def _found(settings: Settings) -> list[Leftover]:
    with closing(open_sandboxes(settings)) as backend:
        return await backend.aside(installation=settings.installation)


async def _discard(settings: Settings, chosen: list[Leftover]) -> None:
    with closing(open_sandboxes(settings)) as backend:
        for sandbox in chosen:
            await backend.discard(sandbox)


def _directory(settings: Settings, run: RunKey) -> str:
    return str(settings.data_dir / ASIDE / f"{run.task}-{run.fence}")
