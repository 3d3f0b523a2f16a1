"""Every kind of payload: answered in time, with Redis away too, and never before it is stored."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from integrations.front import Offer
from tests.contract.slack.conftest import Answer, Line, OverHttp, Site
from tests.support.installation import Installation
from tests.support.slack_api import APP_TOKEN, BOT_TOKEN, SlackApi
from tests.support.slack_payloads import SIGNING_SECRET, command, payload
from tests.support.valkey import ValkeyServer, valkey

__all__ = ["valkey"]

LIMIT = 3.0
"""Seconds; from there on Slack delivers again, or tells the person that nothing happened."""
SAMPLES = Path(__file__).parents[2] / "samples" / "slack"
CLICKS = frozenset(
    {"block_actions", "block_suggestion", "message_action", "shortcut", "view_submission"}
)
EVENTS = sorted({path.stem for path in SAMPLES.glob("*.json")} - CLICKS - {"url_verification"})
COMMANDS = ["acme/web fix it", "help", "list", "status", "stop", "retry", "settings"]
LEAD_TO_WORK = {
    "agent_session_stopped", "app_mention", "app_uninstalled", "tokens_revoked", "command acme/web fix it", "message_changed", "message_file_share",
    "message_im", "message_thread_broadcast", "message_thread_reply", "message_with_mention", "reaction_added",
    "view_submission",
}  # fmt: skip
OFFER = Offer(repos=("acme/web", "acme/api"), agents=("script",), default="acme/web", may_set=True)
POLICY = """\
version: 1
rules:
  - {who: ["*"], where: ["slack:*"], repos: ["*"], agents: [script], may: [start, steer, stop, settings]}
repos:
  acme/web: {forge: local}
  acme/api: {forge: local}
"""

Send = Callable[[Line], Awaitable[Answer]]


def sending(name: str) -> Send:
    """How Slack delivers the sample; a new delivery each time."""
    kind, _, words = name.partition(" ")
    if kind == "command":
        return lambda line: line.command(command(words, trigger_id=f"{time.monotonic_ns()}.1.x"))
    raw = payload(name)
    if name in CLICKS:
        return lambda line: line.interaction(raw)
    return lambda line: line.event(raw)


EVERY = [*EVENTS, *sorted(CLICKS), *(f"command {words}" for words in COMMANDS)]


@pytest.mark.parametrize("name", EVERY)
async def test_every_payload_is_answered_in_time_and_only_once_it_is_stored(
    site: Site, name: str
) -> None:
    site.front.general = OFFER
    answer = await sending(name)(site.line)
    assert answer.ok
    assert answer.seconds < LIMIT
    if name not in LEAD_TO_WORK:
        assert site.stored == []
        return
    assert len(site.stored) == 1

    site.failures = 1
    lost = await sending(name)(site.line)

    assert not lost.ok
    assert lost.seconds < LIMIT
    assert len(site.stored) == 1


@pytest.mark.parametrize("site", ["http"], indirect=True)  # over a socket no answer is the answer
async def test_a_store_that_stalls_is_no_acknowledgement_and_the_next_try_is_stored_once(
    site: Site,
) -> None:
    site.stalls = 1
    stalled = await sending("app_mention")(site.line)
    assert not stalled.ok
    assert stalled.seconds < LIMIT
    again = await sending("app_mention")(site.line)
    assert again.ok
    assert len(site.stored) == 1


@pytest.fixture
async def without_redis(
    tmp_path: Path, api: SlackApi, valkey: ValkeyServer
) -> AsyncIterator[Installation]:
    """The whole of `errand serve`, its Redis gone."""
    settings = {
        "ERRAND_REDIS_URL": valkey.url,
        "ERRAND_SLACK__BOT_TOKEN": BOT_TOKEN,
        "ERRAND_SLACK__APP_TOKEN": APP_TOKEN,
        "ERRAND_SLACK__SIGNING_SECRET": SIGNING_SECRET,
        "ERRAND_SLACK__API_URL": api.url,
    }
    made = Installation(root=tmp_path / "e", policy=POLICY, settings=settings)
    made.start("serve")
    try:
        await made.answers()
        await api.until(lambda: bool(api.sockets), seconds=30)
        await valkey.kill()
        yield made
    finally:
        made.stop()
        print(made.logs())  # noqa: T201  pytest shows it where a test fails


async def over_socket(api: SlackApi, name: str) -> float:
    """Seconds until the envelope is acknowledged."""
    kind, _, words = name.partition(" ")
    began, envelope = time.monotonic(), f"every-{name}"
    raw: dict[str, Any] = dict(command(words)) if kind == "command" else payload(name)
    sent_as = "slash_commands" if kind == "command" else "interactive"
    await api.envelope(envelope, raw, kind=sent_as if name not in EVENTS else "events_api")
    await api.until(lambda: envelope in api.replies_to)
    return time.monotonic() - began


@pytest.mark.redis
@pytest.mark.timeout(120)
async def test_redis_away_keeps_nobody_waiting(without_redis: Installation, api: SlackApi) -> None:
    took: dict[str, float] = {}
    async with httpx.AsyncClient(base_url=without_redis.url, timeout=10) as http:
        for name in EVERY:
            answer = await sending(name)(OverHttp(http=http))
            assert answer.ok, name
            took[f"{name}, HTTP"] = answer.seconds
    for name in EVERY:
        took[f"{name}, socket"] = await over_socket(api, name)

    assert {name: seconds for name, seconds in took.items() if seconds >= LIMIT} == {}
    async with without_redis.store() as store, store.read() as conn:
        found = await conn.exec_driver_sql("SELECT inbound FROM inbox")
        said = [json.loads(row[0])["text"] for row in found]
    assert "acme/web fix it" in said
