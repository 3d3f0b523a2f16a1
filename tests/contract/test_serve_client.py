"""What a worker asks of `serve`."""

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import stamina
from pydantic import SecretStr
from structlog.testing import capture_logs

from runner.errors import (
    ForgeRefusedError,
    ServeUnavailableError,
    StaleRunError,
    UnknownRunError,
)
from runner.failures import failure
from runner.protocol import Finished, RunKey
from runner.serve_client import PIECE_BYTES, RUN_HEADER, STALE, UNKNOWN, ServeClient
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


@pytest.mark.parametrize(
    ("status", "said", "kind"), [(404, UNKNOWN, UnknownRunError), (409, STALE, StaleRunError)]
)
async def test_a_run_that_is_not_current_is_stale_or_unknown(
    status: int, said: str, kind: type[StaleRunError]
) -> None:
    answer = httpx.Response(status, headers={RUN_HEADER: said})
    with pytest.raises(StaleRunError) as refused:
        await client(lambda _: answer).access(RUN, "acme/web")
    assert type(refused.value) is kind


@pytest.mark.parametrize(
    ("status", "headers"),
    [(404, {}), (409, {}), (404, {RUN_HEADER: STALE}), (404, {RUN_HEADER: ""})],
)
async def test_what_a_proxy_says_of_a_run_is_no_answer_and_is_logged(
    status: int, headers: dict[str, str]
) -> None:
    answers = [
        httpx.Response(status, text="404 page not found", headers=headers),
        httpx.Response(200, json={"url": "http://git"}),
    ]
    with capture_logs() as logged:
        found = await client(lambda _: answers.pop(0)).access(RUN, "acme/web")
    assert found.url == "http://git"
    assert f"serve answers {status}" in str(logged)


async def test_a_proxy_that_goes_on_answering_makes_no_run_unknown() -> None:
    with pytest.raises(ServeUnavailableError, match="is it a proxy"):
        await client(lambda _: httpx.Response(404)).launch(RUN)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (httpx.Response(424, json={"detail": "github: 404 Not Found"}), "github: 404 Not Found"),
        (httpx.Response(424, text="<html>"), "it does not say why"),
    ],
)
async def test_what_the_forge_refuses_fails_the_run_and_is_not_tried_again(
    answer: httpx.Response, sentence: str
) -> None:
    answers = [answer]
    with pytest.raises(ForgeRefusedError) as refused:
        await client(lambda _: answers.pop()).launch(RUN)
    assert failure(refused.value) == Finished(
        outcome="failed", reason=f"The forge refuses: {sentence}"
    )


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


async def test_a_file_begins_anew_with_each_try_and_says_its_length(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "transcript").write_bytes(content)
    answers = [httpx.Response(503), httpx.Response(204)]
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answers.pop(0)

    await client(answer).put_transcript(RUN, tmp_path / "transcript")
    assert [request.content for request in seen] == [content, content]
    assert {request.headers["Content-Length"] for request in seen} == {str(len(content))}
    assert not any("Transfer-Encoding" in request.headers for request in seen)


async def test_a_file_that_is_not_there_is_a_fault_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await client(lambda _: httpx.Response(204)).put_transcript(RUN, tmp_path / "nothing")


class _SlowServe:
    """Takes bodies at a pace that a large one needs more than `seconds` for."""

    def __init__(self, seconds: float) -> None:
        self.bodies: list[bytes] = []
        self.came = 0
        self._seconds = seconds

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        self.bodies.append(await self._slowly(reader, int(length[1])))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    async def _slowly(self, reader: asyncio.StreamReader, length: int) -> bytes:
        body, pause = b"", self._seconds * PIECE_BYTES / length
        while len(body) < length and (piece := await reader.read(PIECE_BYTES)):
            body += piece
            await asyncio.sleep(pause)  # the pace itself is what is tested
        return body


async def test_a_body_may_take_longer_than_the_limit_of_each_step(tmp_path: Path) -> None:
    limit, content = 0.5, bytes(range(256)) * 16_384
    (tmp_path / "bundle").write_bytes(content)
    serve = _SlowServe(seconds=3 * limit)
    small = (socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE_BYTES)
        port = listening.getsockname()[1]
        async with await asyncio.start_server(serve, sock=listening, limit=PIECE_BYTES):
            asking = ServeClient(
                url=f"http://127.0.0.1:{port}",
                token=SecretStr("secret"),
                transport=httpx.AsyncHTTPTransport(socket_options=[small]),
                timeout_seconds=limit,
            )
            await asking.put_bundle(RUN, tmp_path / "bundle", head="b", base="a")
            await asking.close()
    assert (serve.came, serve.bodies) == (1, [content])
