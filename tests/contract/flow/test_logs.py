"""One line for each thing that was finished, and nothing that people wrote."""

import pytest
from structlog.testing import capture_logs

from bot.bus import Bus
from integrations.errors import AuthError
from runner.protocol import Event, Finished, Phase, Said, StepStatus, Usage
from tests.contract.flow.office import Office, send_due
from tests.contract.flow.yard import Yard

pytestmark = pytest.mark.redis
PRIVATE = "hunter2"


async def test_a_delivery_and_a_run_have_a_line_each_without_anybodys_words(
    office: Office, yard: Yard, bus: Bus
) -> None:
    with capture_logs() as lines:
        await office.hear(f"acme/web fix it, the password is {PRIVATE}")
        await yard.dispatcher.dispatch()
        [run] = await yard.host.take()
        await bus.prepare_events()
        office.clock.forward(2)
        await yard.host.tell(run, yard.host.started())
        office.clock.forward(30)
        told: list[Event] = [
            Said(text=PRIVATE),
            Phase(name="verify", status=StepStatus.FAILED, detail=PRIVATE, tail=PRIVATE),
            Usage(cost_usd=0.5, input_tokens=10, output_tokens=20),
            Finished(outcome="failed", reason=PRIVATE, summary=PRIVATE, tail=PRIVATE),
        ]
        await yard.host.tell(run, *told)
        await yard.applier.step(pending=False)
        await office.send()
    [delivery] = [line for line in lines if line["event"] == "delivery_handled"]
    assert (delivery["outcome"], delivery["task"]) == ("done", run.task)
    [finished] = [line for line in lines if line["event"] == "run_finished"]
    assert (finished["outcome"], finished["seconds"], finished["cost_usd"]) == ("failed", 30, 0.5)
    assert (finished["host"], finished["agent"], finished["fence"]) == ("h1", "script", 1)
    assert PRIVATE not in repr(lines)


async def test_a_refused_credential_is_said_once_and_its_end_too(office: Office) -> None:
    office.channel.fail(AuthError("fake", "token_revoked"), times=2)
    with capture_logs() as lines:
        await office.hear("help")
        await office.hear("help", message="7.0")
        for _ in range(4):
            await send_due(office.outbox)
            office.clock.forward(61)
        await office.send()
    events = [line["event"] for line in lines]
    assert events.count("destination_stopped") == 1
    assert events.count("destination_resumed") == 1
    assert len(await office.notices()) == 2
