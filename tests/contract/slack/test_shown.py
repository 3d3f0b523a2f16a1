"""What Slack shows depends on what the workspace has: newer blocks, the agent's pane."""

import pytest

from integrations.channel import Card, Conversation, Final, Notice, Question, Reply, Step, StepState
from integrations.slack.sessions import RENEW_SECONDS, Sessions
from tests.contract.slack.conftest import Site
from tests.support.slack_api import Fault

CARD = Card(
    task="1", title="Fix", repo="acme/web", repo_reason="", agent="script", state="working",
    live=True, steps=(Step(title="look", state=StepState.DONE), Step(title="mend", state=StepState.RUNNING)),
)  # fmt: skip
FINAL = Final(outcome="succeeded", text="Done it.")


@pytest.fixture
def direct(site: Site) -> Conversation:
    root = site.api.say("D0DANA", "fix it", user="U0DANA")
    return Conversation(channel="slack", team="T0ACME", place="D0DANA", thread=root)


async def test_a_plan_is_slack_s_own_where_it_has_that(site: Site, direct: Conversation) -> None:
    await site.channel.post(direct, CARD, key="k1")
    await site.channel.post(direct, FINAL, key="k2")

    _, card, final = (str(message.get("blocks")) for message in site.api.messages["D0DANA"])
    assert "task_card" in card
    assert "in_progress" in card
    assert "feedback_buttons" in final


async def test_elsewhere_it_is_plain_and_that_is_tried_once(
    site: Site, direct: Conversation
) -> None:
    site.api.rich = False
    replies: list[Reply] = [CARD, CARD, FINAL]
    for n, reply in enumerate(replies):
        await site.channel.post(direct, reply, key=f"k{n}")

    posts = [args for name, args in site.api.calls if name == "chat.postMessage"]
    assert len(posts) == 4
    assert len(site.api.messages["D0DANA"]) == 4
    assert "▸ mend" in str(site.api.messages["D0DANA"][1]["blocks"])
    assert "👎" in str(site.api.messages["D0DANA"][-1]["blocks"])


async def test_the_text_says_all_without_blocks(site: Site, direct: Conversation) -> None:
    await site.channel.post(direct, CARD, key="k")
    text = str(site.api.messages["D0DANA"][-1]["text"])
    for fact in ("Fix", "acme/web", "working", "✓ look", "▸ mend", "stop"):
        assert fact in text


async def test_the_pane_shows_how_far_it_is(site: Site, direct: Conversation) -> None:
    seen = []
    replies: list[Reply] = [
        CARD, Question(text="Which?", options=()), CARD, Notice(text="x"), FINAL,
    ]  # fmt: skip
    for n, reply in enumerate(replies):
        await site.channel.post(direct, reply, key=f"k{n}")
        seen.append(site.api.sessions[direct.place, direct.thread])
    assert seen == ["processing", "suspended", "processing", "processing", "active"]


async def test_the_pane_is_told_again_before_slack_forgets(
    site: Site, direct: Conversation
) -> None:
    now = [0.0]
    sessions, [client] = Sessions(clock=lambda: now[0]), await site.clients()
    for at in (0.0, 60.0, RENEW_SECONDS):
        now[0] = at
        await sessions.show(client, direct, CARD)
    assert [name for name, _ in site.api.calls].count("agents.sessions.setStatus") == 2


async def test_the_pane_lists_a_conversation_by_its_errand(
    site: Site, direct: Conversation
) -> None:
    await site.channel.post(direct, CARD, key="k")
    [told] = [args for name, args in site.api.calls if name == "agents.sessions.setStatus"]
    assert told["title"] == "Fix"


async def test_a_workspace_without_panes_takes_none_from_others(
    site: Site, direct: Conversation
) -> None:
    sessions, [client] = Sessions(), await site.clients()
    site.api.fail("agents.sessions.setStatus", Fault(code="not_allowed"))
    await sessions.show(client, direct.model_copy(update={"team": "T0SUB"}), CARD)
    await sessions.show(client, direct, CARD)
    assert site.api.sessions[direct.place, direct.thread] == "processing"


async def test_without_a_pane_nothing_else_suffers(site: Site, direct: Conversation) -> None:
    site.api.fail("agents.sessions.setStatus", Fault(code="not_allowed"))
    for n in range(2):
        await site.channel.post(direct, CARD, key=f"k{n}")
    assert [name for name, _ in site.api.calls].count("agents.sessions.setStatus") == 1


async def test_a_pane_out_of_reach_is_tried_again(site: Site, direct: Conversation) -> None:
    site.api.fail("agents.sessions.setStatus", Fault(status=503))
    for n in range(2):
        await site.channel.post(direct, CARD, key=f"k{n}")
    assert site.api.sessions[direct.place, direct.thread] == "processing"


async def test_channels_have_no_pane(site: Site) -> None:
    root = site.api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA")
    here = Conversation(channel="slack", team="T0ACME", place="C0WEB", thread=root)
    await site.channel.post(here, CARD, key="k")
    assert site.api.sessions == {}
