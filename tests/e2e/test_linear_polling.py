"""Linear without webhooks, and with both: polling finds what webhooks would have told, and doubles nothing."""

from pathlib import Path

import pytest

from bot.states import TaskState
from tests.e2e.lead import FIX, a_lead

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.timeout(180)]


async def test_without_an_inbound_port_linear_is_asked(tmp_path: Path) -> None:
    async with a_lead(tmp_path / "e", webhooks=False, polling=5) as lead:
        issue, session = await lead.delegate("Greeting", FIX)
        await lead.sees_end(session)
        assert (await lead.task(session)).state is TaskState.SUCCEEDED
        assert issue.state.name == "In Review"
        assert lead.linear.webhooks.deliveries == []

        _, session = await lead.at_work()
        await lead.linear.people.stop(session)
        assert (await lead.ended(session, seconds=30)).state is TaskState.STOPPED
        await lead.sees_end(session)


async def test_a_ticket_delivered_twice_and_polled_is_one_task(tmp_path: Path) -> None:
    async with a_lead(tmp_path / "e", polling=5) as lead:
        _, session = await lead.delegate("Greeting", FIX)
        await lead.linear.webhooks.redeliver(0)
        asked = lead.linear.count("SessionsSince")
        await lead.sees(lambda: lead.linear.count("SessionsSince") >= asked + 2, "polled twice")
        await lead.sees_end(session)
        assert len(await lead.errand.tasks()) == 1
        assert len(session.said("response")) == 1
