"""Many short errands while everything is killed. Run: python -m tests.chaos [--tasks 200] [--seed 7] [--seconds 180]

With `--database postgresql --serves 2 --works 2` there are two of each, and PostgreSQL is killed as well. Where that is
possible the last host has a Docker daemon of its own, which is killed too; the machine's never is.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from runner.images.build import ensure_image
from tests.chaos.faults import Nemesis
from tests.chaos.people import LONG, People
from tests.chaos.remains import is_bare
from tests.chaos.site import Plan, Site, site
from tests.chaos.verdict import Verdict, judge, mostly_ended, progress, settled
from tests.support.installation import until

EVERY_SECONDS = (0.0, 1.5)
"""Between two requests."""
CLEAN_SECONDS = 90.0
"""What could not be removed while Docker was away is found by the next sweep of `work`."""
PATIENCE_SECONDS = 240.0
"""How long nothing may move, once nothing is killed any more: longer than a lease and its grace."""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    arguments.add_argument("--tasks", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    arguments.add_argument("--seconds", type=float, default=7200, help="ask for nothing more then")
    arguments.add_argument("--keep", type=Path, help="where logs and data go, and stay")
    arguments.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    arguments.add_argument("--serves", type=int, default=1, help="several need PostgreSQL")
    arguments.add_argument("--works", type=int, default=1)
    arguments.add_argument(
        "--own-dockerd", action=argparse.BooleanOptionalAction, default=may_have_dockerd(),
        help="needs root and `dockerd`, and is the default where these are",
    )  # fmt: skip
    given = arguments.parse_args()
    if not given.own_dockerd:
        say("no Docker daemon of our own (--own-dockerd needs root and `dockerd`): none is killed")
    plan = Plan(
        database=given.database, serves=given.serves, works=given.works, own_dockerd=given.own_dockerd
    )  # fmt: skip
    say(f"seed {given.seed}")
    ensure_image(progress=say)
    with tempfile.TemporaryDirectory(prefix="chaos-") as made:
        root = (given.keep or Path(made)) / "s"
        verdict = asyncio.run(
            chaos(root, plan, tasks=given.tasks, seed=given.seed, seconds=given.seconds)
        )
    for wrong in verdict.wrong:
        say(wrong)
    sys.stdout.write(f"{verdict.line}\n")
    sys.exit(0 if verdict.holds else 1)


def may_have_dockerd() -> bool:
    return os.geteuid() == 0 and all(map(shutil.which, ("dockerd", "ip")))


async def chaos(root: Path, plan: Plan, *, tasks: int, seed: int, seconds: float) -> Verdict:
    _end_in_order()
    async with site(root, plan) as made:
        people = People(site=made, rng=Random(f"{seed} people"))  # noqa: S311  repeatable, no secret
        nemesis = Nemesis(site=made, people=people, rng=Random(f"{seed} faults"))  # noqa: S311
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(loop)
                for loop in (nemesis.kill(), nemesis.fail_calls(), nemesis.keep())
            ]
            asked = await _ask(people, tasks + LONG, seconds=seconds)
            await _waited(nemesis.has_killed_all, seconds=PATIENCE_SECONDS)
            await _waited(lambda: mostly_ended(made, asked), seconds=seconds)
            await nemesis.end(*loops[:2])
            made.slack.faults.clear()
            made.linear.faults.clear()
            await _settled(made, asked)
            await _waited(lambda: is_bare(made), seconds=CLEAN_SECONDS)
            await nemesis.end(*loops[2:])
        say(", ".join(f"{name} {times}" for name, times in sorted(nemesis.done.items())))
        wanted = asked - len(people.stopped)
        return await judge(made, people, wanted=wanted, spared=nemesis.spared())


def _end_in_order() -> None:
    """On SIGTERM too what was started is stopped, the daemon above all."""
    whole = asyncio.current_task()
    if whole is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, whole.cancel)


async def _ask(people: People, tasks: int, *, seconds: float) -> int:
    """Ask for so many errands, as long as there is time; how many it were."""
    until_then = asyncio.get_running_loop().time() + seconds
    for number in range(tasks):
        if asyncio.get_running_loop().time() > until_then:
            return number
        await people.ask(number)
        await asyncio.sleep(people.rng.uniform(*EVERY_SECONDS))
    return tasks


async def _waited(true: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
    """In vain, perhaps: it is the verdict that tells."""
    with contextlib.suppress(AssertionError):
        await until(true, seconds=seconds, what="it is so")


async def _settled(made: Site, asked: int) -> None:
    """As long as things move, they are waited for."""
    moved = -1
    while (now := await progress(made)) > moved:
        moved = now

        async def ended_or_moved(before: int = now) -> bool:
            return await settled(made, asked) or await progress(made) > before

        await _waited(ended_or_moved, seconds=PATIENCE_SECONDS)
        if await settled(made, asked):
            return


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    main()
