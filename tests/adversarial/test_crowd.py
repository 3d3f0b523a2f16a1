"""Many sandboxes at once; the bench does it with fifty."""

from pathlib import Path

import pytest

from tests.adversarial.canaries import http_canary
from tests.support import crowd
from tests.support.docker_host import IMAGE_SECONDS, default_image, docker_backend, labelled
from tests.support.messages_api import bridge_address

pytestmark = [pytest.mark.docker, pytest.mark.timeout(IMAGE_SECONDS)]

COUNT = 6
MOST_MIB = 80


async def test_each_sees_its_own_and_all_are_gone_after(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """70: repository, credential, files; and what the containers around an agent weigh."""
    image, host = default_image(), bridge_address()
    async with docker_backend(request) as (backend, installation):
        with http_canary(host) as canary:
            async with crowd.crowd(
                COUNT, backend=backend, installation=installation, image=image, where=tmp_path, canary=canary, host=host
            ) as members:  # fmt: skip
                for member in members:
                    found = await crowd.seen(member, neighbour=(member.number + 1) % COUNT)
                    assert found == ["3", member.base, "200", "403"]
                    assert crowd.told(member.secret, canary) == 1
                    assert await crowd.overhead_mib(member) <= MOST_MIB
                engine = members[0].sandbox._engine
            assert await engine.running(lambda api: labelled(api, installation)) == []
