"""What workers get from `serve` over HTTP, and when they don't."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from bot.branches import Branches
from bot.broker import Broker
from bot.dispatch import _new_run
from bot.handin import HandIn, HandIns
from bot.pictures import note_pictures, pictures_of
from bot.progress import View
from bot.states import TaskState
from bot.store import runs
from bot.web import create_app
from bot.worker_api import WorkerApi
from integrations.channel import Picture
from integrations.errors import (
    AuthError,
    IntegrationError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from integrations.forge import GitAccess
from integrations.testing_forge import FakeForge, FakeReading, FakeRepo
from runner.errors import ForgeRefusedError, StaleRunError, UnknownRunError
from runner.protocol import Launch, RunKey
from runner.serve_client import RUN_HEADER, STALE, UNKNOWN, ServeClient
from tests.contract.flow.office import Office
from tests.support.builders import NOW
from tests.support.discussions import A_PULL

TOKEN = "worker-token-of-the-test"
SECRET = "AUTHORIZATION: basic c2VjcmV0"
BASE, HEAD = "a" * 40, "b" * 40


@dataclass(slots=True, kw_only=True)
class Desk:
    office: Office
    forge: FakeForge
    handed_in: HandIns
    app: FastAPI
    client: httpx.AsyncClient
    run: RunKey
    headers: dict[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {TOKEN}"})

    def path(self, rest: str = "", *, fence: int = 1) -> str:
        return f"/worker/runs/{self.run.task}/{fence}{rest}"

    async def put(self, rest: str, content: bytes = b"x", **kwargs: object) -> httpx.Response:
        return await self.client.put(self.path(rest), content=content, headers=self.headers)


@pytest.fixture
async def api(office: Office, tmp_path: Path) -> AsyncIterator[Desk]:
    access = GitAccess(url="https://forge.example/acme/web.git", header=SecretStr(SECRET))
    forge = FakeForge(name="local", repos={"acme/web": FakeRepo(access=access)})
    handed_in = HandIns(tmp_path / "data")
    routes = WorkerApi(
        store=office.store,
        forges={"local": forge},
        handed_in=handed_in,
        token=SecretStr(TOKEN),
        installation="test",
        branches=Branches(store=office.store, forges={"local": forge}, root=tmp_path / "publish"),
        broker=Broker(readings={"local": FakeReading(pulls={("acme/web", 7): A_PULL})}),
    ).routes()
    await office.hear("acme/web fix it agent=script")
    task = await office.put(TaskState.RUNNING, fence=1)
    app = create_app([routes])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://serve") as client:
        yield Desk(
            office=office,
            forge=forge,
            handed_in=handed_in,
            app=app,
            client=client,
            run=RunKey(task=task.id, fence=1),
        )


ROUTES = [
    ("GET", ""),
    ("GET", f"/pictures/{'a' * 64}"),
    ("POST", "/access"),
    ("PUT", f"/bundle?base={BASE}&head={HEAD}"),
    ("PUT", "/transcript"),
    ("POST", "/command"),
]


@pytest.mark.parametrize(("method", "rest"), ROUTES)
@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
async def test_without_the_token_nothing_is_told(
    api: Desk, method: str, rest: str, token: str | None
) -> None:
    headers = {} if token is None else {"authorization": token}
    answer = await api.client.request(method, api.path(rest), headers=headers)
    assert answer.status_code == 401
    assert api.run.task not in answer.text


@pytest.mark.parametrize(("method", "rest"), ROUTES)
async def test_an_unknown_task_is_not_found(api: Desk, method: str, rest: str) -> None:
    answer = await api.client.request(method, f"/worker/runs/01nobody/1{rest}", headers=api.headers)
    assert (answer.status_code, answer.headers[RUN_HEADER]) == (404, UNKNOWN)


@pytest.mark.parametrize(("method", "rest"), ROUTES)
@pytest.mark.parametrize(("fence", "status", "said"), [(0, 409, STALE), (2, 404, UNKNOWN)])
async def test_another_fence_is_refused_and_a_later_one_not_known(
    api: Desk, method: str, rest: str, fence: int, status: int, said: str
) -> None:
    answer = await api.client.request(method, api.path(rest, fence=fence), headers=api.headers)
    assert (answer.status_code, answer.headers[RUN_HEADER]) == (status, said)


async def test_a_path_that_is_not_there_says_nothing_of_a_run(api: Desk) -> None:
    answer = await api.client.get(api.path("/nothing"), headers=api.headers)
    assert answer.status_code == 404
    assert RUN_HEADER not in answer.headers


@pytest.mark.parametrize(("method", "rest"), ROUTES)
@pytest.mark.parametrize(
    "state", [TaskState.QUEUED, TaskState.PUBLISHING, TaskState.FAILED, TaskState.STOPPED]
)
async def test_a_run_that_is_over_is_refused(
    api: Desk, method: str, rest: str, state: TaskState
) -> None:
    await api.office.put(state)
    answer = await api.client.request(method, api.path(rest), headers=api.headers)
    assert answer.status_code == 409


async def test_a_launch_says_what_to_run(api: Desk) -> None:
    answer = await api.client.get(api.path(), headers=api.headers)
    launch = Launch.model_validate_json(answer.content)
    task = await api.office.task()
    assert (launch.run, launch.repo, launch.branch) == (api.run, "acme/web", task.branch)
    assert (launch.agent, launch.base_branch, launch.resume) == ("script", "main", False)
    assert launch.prompt == task.prompt


async def test_pictures_of_the_request_can_be_had_by_name(api: Desk) -> None:
    mine = await api.handed_in.keep_picture(b"a picture")
    another = await api.handed_in.keep_picture(b"of somebody else")
    async with api.office.store.begin() as tx:
        await note_pictures(tx, api.run.task, 1, [Picture(name=mine, kind="image/png")])
    launch = Launch.model_validate_json(
        (await api.client.get(api.path(), headers=api.headers)).content
    )
    assert [(p.name, p.kind) for p in launch.pictures] == [(mine, "image/png")]
    found = await api.client.get(api.path(f"/pictures/{mine}"), headers=api.headers)
    assert (found.status_code, found.content) == (200, b"a picture")
    other = await api.client.get(api.path(f"/pictures/{another}"), headers=api.headers)
    assert (other.status_code, other.content) == (204, b"")
    api.handed_in.picture(mine).unlink()
    gone = await api.client.get(api.path(f"/pictures/{mine}"), headers=api.headers)
    assert gone.status_code == 204


async def test_a_picture_comes_with_the_round_that_it_was_sent_with(api: Desk) -> None:
    picture = Picture(name="b" * 64, kind="image/png")
    await api.office.put(TaskState.SUCCEEDED, fence=1)
    inbound = api.office.inbound("and so").model_copy(update={"pictures": (picture,)})
    await api.office.intake.receive(inbound)
    await api.office.desk.work_off()
    task = await api.office.task()
    async with api.office.store.read() as conn:
        assert [p.name for p in await pictures_of(conn, task)] == [picture.name]

    await api.office.put(TaskState.FAILED)
    await api.office.hear("retry")
    async with api.office.store.read() as conn:
        assert [p.name for p in await pictures_of(conn, await api.office.task())] == [picture.name]
    await api.office.put(TaskState.FAILED)
    await api.office.hear("something else")
    async with api.office.store.read() as conn:
        assert await pictures_of(conn, await api.office.task()) == ()
        assert await pictures_of(conn, task.model_copy(update={"round": 1})) == ()


async def test_a_further_attempt_knows_what_the_round_has_spent(api: Desk) -> None:
    first = _new_run(await api.office.task(), 1, NOW)
    spent = View(metered=True, counted_usd=1.5).model_dump(mode="json")
    async with api.office.store.begin() as tx:
        await runs.insert(tx, first.model_copy(update={"view": spent}))
        await runs.insert(tx, first.model_copy(update={"fence": 2}))
        await runs.insert(tx, first.model_copy(update={"fence": 3, "round": 2}))
    await api.office.put(TaskState.RUNNING, fence=2)
    answer = await api.client.get(api.path(fence=2), headers=api.headers)
    launch = Launch.model_validate_json(answer.content)
    assert (launch.spent_usd, launch.limits.cost_usd) == (1.5, 5.0)
    await api.office.put(TaskState.RUNNING, fence=3, round=2)
    answer = await api.client.get(api.path(fence=3), headers=api.headers)
    assert Launch.model_validate_json(answer.content).spent_usd == 0


async def test_a_launch_holds_no_secret(api: Desk) -> None:
    answer = await api.client.get(api.path(), headers=api.headers)
    assert TOKEN not in answer.text
    assert "c2VjcmV0" not in answer.text


async def test_a_round_after_a_pull_request_goes_on_from_its_branch(api: Desk) -> None:
    await api.office.put(TaskState.RUNNING, pull_url="http://forge.example/1")
    answer = await api.client.get(api.path(), headers=api.headers)
    assert Launch.model_validate_json(answer.content).resume


async def test_access_is_for_reading_only(api: Desk) -> None:
    answer = await api.client.post(api.path("/access"), headers=api.headers)
    assert answer.json() == {"url": "https://forge.example/acme/web.git", "header": SECRET}
    assert api.forge.writes == []


async def test_another_repository_is_open_where_the_grant_lists_it(api: Desk) -> None:
    access = GitAccess(url="https://forge.example/acme/api.git")
    api.forge.repos["acme/library"] = FakeRepo(access=access)
    task = await api.office.task()
    closed = await api.client.post(api.path("/access?repo=acme/library"), headers=api.headers)
    assert closed.status_code == 403
    reads = [{"forge": "local", "repo": "acme/library"}]
    grant = json.dumps({**task.grant, "reads": reads})
    await api.office.put(TaskState.RUNNING, grant=grant)
    answer = await api.client.post(api.path("/access?repo=acme/library"), headers=api.headers)
    assert answer.json() == {"url": "https://forge.example/acme/api.git", "header": None}
    launch = await api.client.get(api.path(), headers=api.headers)
    assert [r.repo for r in Launch.model_validate_json(launch.content).reads] == ["acme/library"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError("forge", "502"), 503),
        (RateLimitedError("forge", 60), 503),
        (AuthError("forge", "401 Bad credentials"), 502),
        (RejectedError("forge", "404 Not Found"), 424),
    ],
)
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", "/access")])
async def test_trouble_with_the_forge_is_asked_again_unless_it_refuses_for_good(
    api: Desk, method: str, rest: str, error: IntegrationError, status: int
) -> None:
    api.forge.fail(error)
    answer = await api.client.request(method, api.path(rest), headers=api.headers)
    assert answer.status_code == status


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", "/access")])
async def test_a_forge_that_is_switched_off_is_named(api: Desk, method: str, rest: str) -> None:
    await api.office.put(TaskState.RUNNING, forge="nowhere")
    answer = await api.client.request(method, api.path(rest), headers=api.headers)
    assert answer.status_code == 424
    assert answer.json() == {"detail": "nowhere: the forge is not switched on here"}


async def test_a_worker_understands_what_is_refused(api: Desk, tmp_path: Path) -> None:
    app = httpx.ASGITransport(app=api.app)
    serve = ServeClient(url="http://serve", token=SecretStr(TOKEN), transport=app)
    with pytest.raises(UnknownRunError):
        await serve.launch(RunKey(task="01nobody", fence=1))
    api.forge.fail(RejectedError("github", "404 Not Found"))
    with pytest.raises(ForgeRefusedError, match=r"^github: 404 Not Found$"):
        await serve.launch(api.run)
    (tmp_path / "bundle").write_bytes(bytes(range(256)) * 5000)
    await serve.put_bundle(api.run, tmp_path / "bundle", head=HEAD, base=BASE)
    assert api.handed_in.bundle(api.run).read_bytes() == (tmp_path / "bundle").read_bytes()
    await api.office.put(TaskState.STOPPED)
    with pytest.raises(StaleRunError, match="not current"):
        await serve.launch(api.run)
    await serve.close()


async def test_a_command_is_run_by_the_grant_of_the_task(api: Desk) -> None:
    body = {"tool": "gh", "argv": ["pr", "view", "7"]}
    without = await api.client.post(api.path("/command"), json=body, headers=api.headers)
    assert without.json()["verdict"] == "deny"
    task = await api.office.task()
    await api.office.put(
        TaskState.RUNNING, grant=json.dumps({**task.grant, "brokered_commands": ["gh"]})
    )
    answer = await api.client.post(api.path("/command"), json=body, headers=api.headers)
    assert (answer.json()["verdict"], answer.json()["status"]) == ("allow", 0)
    assert A_PULL.title in answer.json()["stdout"]


async def test_what_is_no_command_is_refused(api: Desk) -> None:
    answer = await api.client.post(api.path("/command"), json={"argv": 1}, headers=api.headers)
    assert answer.status_code == 422


BUNDLE = f"/bundle?base={BASE}&head={HEAD}"


async def test_a_bundle_is_kept_whole(api: Desk) -> None:
    content = bytes(range(256)) * 5000
    assert (await api.put(BUNDLE, content)).status_code == 204
    assert api.handed_in.bundle(api.run).read_bytes() == content
    assert api.handed_in.hand_in(api.run) == HandIn(base=BASE, head=HEAD)


@pytest.mark.parametrize("rest", [BUNDLE, "/transcript"])
async def test_handing_in_twice_keeps_the_newest(api: Desk, rest: str) -> None:
    for content in (b"first", b"second"):
        assert (await api.put(rest, content)).status_code == 204
    path = api.handed_in.bundle if rest == BUNDLE else api.handed_in.transcript
    assert path(api.run).read_bytes() == b"second"
    assert not list(path(api.run).parent.glob(".incoming-*"))


async def test_handing_in_at_the_same_time_is_harmless(api: Desk) -> None:
    content = b"y" * 300_000
    answers = await asyncio.gather(*(api.put(BUNDLE, content) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {204}
    assert api.handed_in.bundle(api.run).read_bytes() == content


@pytest.mark.parametrize("rest", [BUNDLE, "/transcript"])
async def test_too_much_is_refused_and_nothing_is_kept(
    api: Desk, rest: str, tmp_path: Path
) -> None:
    small = HandIns(tmp_path / "small", max_bundle_bytes=10, max_transcript_bytes=10)
    routes = WorkerApi(
        store=api.office.store,
        forges={"local": api.forge},
        handed_in=small,
        token=SecretStr(TOKEN),
        installation="test",
        branches=Branches(
            store=api.office.store, forges={"local": api.forge}, root=tmp_path / "publish"
        ),
        broker=Broker(readings={}),
    ).routes()
    transport = httpx.ASGITransport(app=create_app([routes]))
    async with httpx.AsyncClient(transport=transport, base_url="http://serve") as client:
        answer = await client.put(api.path(rest), content=b"z" * 11, headers=api.headers)
    assert answer.status_code == 413
    assert [p for p in (tmp_path / "small").rglob("*") if p.is_file()] == []


async def test_a_body_that_breaks_off_leaves_what_was_there(api: Desk) -> None:
    await api.put(BUNDLE, b"whole")

    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await api.handed_in.keep_bundle(api.run, HandIn(base=HEAD, head=BASE), half())
    assert api.handed_in.bundle(api.run).read_bytes() == b"whole"
    assert api.handed_in.hand_in(api.run).head == HEAD
    assert not list(api.handed_in.bundle(api.run).parent.glob(".incoming-*"))


@pytest.mark.parametrize("query", ["", "?base=x&head=y", f"?base={BASE}&head={'B' * 40}"])
async def test_a_bundle_without_its_commits_is_refused(api: Desk, query: str) -> None:
    assert (await api.put(f"/bundle{query}")).status_code == 422


async def test_a_task_id_never_becomes_a_path(api: Desk) -> None:
    answer = await api.client.put(
        "/worker/runs/..%2F..%2Fetc/1/transcript", content=b"x", headers=api.headers
    )
    assert answer.status_code == 404
