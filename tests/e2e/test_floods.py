"""An agent, or a command of its, that prints without an end: its own run pays for it, and nobody else."""

from pathlib import Path

import pytest
from sqlalchemy import text as sql

from bot.states import TaskState
from runner.inside.containment import status_fields
from runner.report import MOST_EVENTS
from tests.e2e.conftest import FILES, Team

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(300)]

MAY_HAVE = 160 * 1024 * 1024
"""Of `work`, which has 90 MiB of it when it does nothing."""
RECIPES = {
    "chatter": "yes 'what a test prints, of which there are many' | head -c 100000000\nsed -i s/helo/hello/ greet.py\n",
    "flood": (
        """seq -f '%02000.0f' 25000 | sed 's/.*/{"jsonrpc":"2.0","method":"session\\/update","params":{"sessionId":"s","""
        """"update":{"sessionUpdate":"tool_call","toolCallId":"&","title":"&"}}}/' > /proc/$PPID/fd/1\n"""
    ),
}
"""The second speaks the agent's protocol, through the agent's own pipe."""


@pytest.fixture
def files() -> dict[str, str]:
    return FILES | {f".errand/recipes/{name}.sh": text for name, text in RECIPES.items()}


def peak(team: Team) -> int:
    """The most bytes of memory that `work` has had."""
    status = Path(f"/proc/{team.errand.processes['work'].pid}/status").read_text()
    return int(status_fields(status)["VmHWM"].removesuffix("kB")) * 1024


async def told(team: Team) -> int:
    """Events of the agent."""
    async with team.errand.store() as store, store.read() as conn:
        query = "SELECT count(*) FROM event WHERE source = 'agent'"
        return int((await conn.execute(sql(query))).scalar_one())


async def test_a_hundred_megabytes_of_output_are_a_few_events(team: Team) -> None:
    thread = await team.mention("recipe chatter")
    task = await team.ends(thread, seconds=120)
    assert task.state is TaskState.SUCCEEDED, task.reason
    assert await told(team) < 1_000
    assert peak(team) < MAY_HAVE


async def test_a_flood_of_protocol_ends_its_run_and_is_bounded_on_its_way(team: Team) -> None:
    thread = await team.mention("recipe flood")
    task = await team.ends(thread, seconds=200)
    assert task.state is TaskState.FAILED
    assert task.attempts == 1
    await team.hears(thread, "printed more than a run may", seconds=5)
    assert MOST_EVENTS <= await told(team) < MOST_EVENTS + 100
    assert peak(team) < MAY_HAVE
