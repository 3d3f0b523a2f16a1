"""A run with a model connection: the secret goes to the gateway, and nowhere else."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from policies.connection_model import GrantedLlm
from runner import keys
from runner.protocol import Finished
from tests.support.agent_container import RUN, a_launch
from tests.support.site import WAIT_SECONDS, Site
from tests.support.valkey import ValkeyServer, redis, valkey

__all__ = ["ValkeyServer", "redis", "valkey"]
pytestmark = pytest.mark.redis

CANARY = "sk-canary"
ANTHROPIC = GrantedLlm(
    kind="llm",
    name="anthropic",
    upstream="https://api.acme.com",
    secret="ANTHROPIC_API_KEY",
    models=("claude-*",),
)


@pytest.fixture
async def site(tmp_path: Path, redis: Redis) -> Site:
    return Site(root=tmp_path, redis=redis)


async def ended(site: Site, **changes: Any) -> Finished:
    await site.launch(a_launch(agent="mender", connections=(ANTHROPIC,)))
    async with asyncio.timeout(WAIT_SECONDS), site.applying():
        await site.live(RUN, **changes).follow()
    return site.finished()


async def test_a_missing_secret_fails_the_run_at_once_with_who_can_set_it(site: Site) -> None:
    finished = await ended(site)
    assert finished.outcome == "failed"
    assert "ERRAND_SECRETS__ANTHROPIC_API_KEY" in finished.reason
    assert "operator" in finished.reason
    assert not finished.infrastructure
    assert site.backend.sent == []


async def test_only_the_gateway_gets_the_secret(site: Site) -> None:
    heard: list[Mapping[str, Any]] = []

    def gateway(_key: str, _to: str, msg: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        heard.append(msg)
        return ()

    site.backend.scripts["gateway"] = gateway
    finished = await ended(site, secrets={"ANTHROPIC_API_KEY": SecretStr(CANARY)})
    assert finished.outcome == "done"
    assert [c["secret"] for c in heard[0]["connections"]] == [CANARY]
    assert CANARY not in json.dumps(site.serve.transcript(RUN))
    assert CANARY not in str(site.told())
    assert not [
        p for p in site.root.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()
    ]
    dumped = [await site.redis.dump(key) for key in await site.redis.keys("*")]
    assert dumped
    assert CANARY not in str(dumped)
    assert await site.redis.hgetall(keys.task(RUN.task)) != {}  # type: ignore[misc]
