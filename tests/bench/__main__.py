"""Measure, write `bench/results.json`, print a table. Run: python -m tests.bench [webhook|card|crowd|start|reattach|linear]…"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from rich.console import Console

from tests.bench import (
    card,
    crowd,
    density,
    egress,
    flood,
    flow,
    line,
    linear,
    many,
    reattach,
    recovery,
    start,
    webhook,
)
from tests.bench.figures import Figure, Results
from tests.bench.surroundings import results_of
from tests.bench.table import table

OUT = Path(__file__).parents[2] / "bench" / "results.json"
Measure = Callable[[Path, Console], Awaitable[list[Figure]]]
PARTS: dict[str, Measure] = {
    "webhook": webhook.measure,
    "card": card.measure,
    "crowd": crowd.measure,
    "line": line.measure,
    "flow": flow.measure,
    "flood": flood.measure,
    "many": many.measure,
    "start": start.measure,
    "reattach": reattach.measure,
    "recovery": recovery.measure,
    "linear": linear.measure,
    "density": density.measure,
    "egress": egress.measure,
}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    arguments.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; else all")
    arguments.add_argument("--out", type=Path, default=OUT, help="where the results go")
    given = arguments.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        arguments.error(f"no such part: {', '.join(sorted(unknown))}")
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
    results = measured(given.parts or list(PARTS), console)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(results.model_dump_json(indent=1) + "\n")
    Console(width=None if sys.stdout.isatty() else 160).print(table(results))


def measured(parts: list[str], console: Console) -> Results:
    # Some parts run in this process, and would say so.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    load_before = os.getloadavg()[0]
    figures: list[Figure] = []
    with _as_installed(), tempfile.TemporaryDirectory(prefix="errand-bench-") as directory:
        for part in parts:
            with console.status(part):
                figures += asyncio.run(_measure(part, Path(directory, part), console))
    return results_of(figures, load_before=load_before)


async def _measure(part: str, root: Path, console: Console) -> list[Figure]:
    return await PARTS[part](root, console)


@contextmanager
def _as_installed() -> Iterator[None]:
    """The processes find compiled bytecode, as those of an installation do."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="errand-bench-pyc-") as directory:
        os.environ["PYTHONPYCACHEPREFIX"] = directory
        yield


if __name__ == "__main__":
    main()
