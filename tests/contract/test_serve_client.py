"""What a worker asks of `serve`."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import stamina
from pydantic import SecretStr

from runner.errors import ServeUnavailableError, StaleRunError, UnknownRunError
from runner.protocol import RunKey
from runner.serve_client import ServeClient
from tests.support.agent_container import RUN, a_launch

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> ServeClient:
    return ServeClient(
        url="http://serve", token=SecretStr("secret"), transport=httpx.MockTransport(answer)
    )


@pytest.fixture(autouse=True)
def at_once() -> None:
    stamina.set_testing(testing=True, attempts=3)


@pytest.fixture(autouse=True)
def _restored() -> object:
    yield
    stamina.set_testing(testing=False)


async def test_a_launch_is_fetched_with_the_token() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, text=a_launch().model_dump_json())

    assert await client(answer).launch(RUN) == a_launch()
    assert seen[0].url.path == "/worker/runs/01jz/1"
    assert seen[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(("status", "kind"), [(404, UnknownRunError), (409, StaleRunError)])
async def test_a_run_that_is_not_current_is_stale_or_unknown(
    status: int, kind: type[StaleRunError]
) -> None:
    with pytest.raises(StaleRunError) as refused:
        await client(lambda _: httpx.Response(status)).access(RUN, "acme/web")
    assert type(refused.value) is kind


async def test_no_answer_and_server_errors_are_tried_again() -> None:
    answers = [None, httpx.Response(503), httpx.Response(200, json={"url": "http://git"})]

    def answer(request: httpx.Request) -> httpx.Response:
        given = answers.pop(0)
        if given is None:
            raise httpx.ConnectError("refused", request=request)
        return given

    assert (await client(answer).access(RUN, "acme/web")).url == "http://git"


@pytest.mark.parametrize("status", [400, 401, 413])
async def test_our_own_mistakes_are_not_tried_again(status: int) -> None:
    asked: list[RunKey] = []

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(RUN)
        return httpx.Response(status)

    with pytest.raises(ServeUnavailableError, match=str(status)):
        await client(answer).launch(RUN)
    assert len(asked) == 1


async def test_an_answer_that_is_no_launch_is_named() -> None:
    with pytest.raises(ServeUnavailableError, match="Launch"):
        await client(lambda _: httpx.Response(200, json={})).launch(RUN)


async def test_a_bundle_travels_with_its_commits(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"objects")
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    await client(answer).put_bundle(RUN, tmp_path / "bundle", head="b", base="a")
    assert (seen[0].method, seen[0].url.query, seen[0].content) == (
        "PUT", b"head=b&base=a", b"objects",
    )  # fmt: skip
