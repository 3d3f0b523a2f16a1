"""The HTTP API that workers use: what to run, how to read the repository, and where to hand in."""

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from pydantic import SecretStr, ValidationError

from bot.approvals import opened
from bot.branches import Branches
from bot.broker import Broker
from bot.handin import HandIn, HandIns, TooLargeError
from bot.kept import is_kept
from bot.launch import launch_of
from bot.pictures import pictures_of
from bot.progress import spent_in
from bot.states import IN_SANDBOX
from bot.store import approvals, runs, tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from integrations.errors import AuthError, RejectedError
from integrations.forge import Forge
from policies.model import Grant, RepoRead
from runner.protocol import Answered, Asked, Launch, RunKey
from runner.serve_client import RUN_HEADER, STALE, UNKNOWN

Authorization = Annotated[str, Header()]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerApi:
    """Routes under `/worker`.

    401 without the token, 403 for a repository that the run may not read, 404 for an unknown run and 409 for one that
    is not current (both with `RUN_HEADER`), 413 for too much, 424 for what the forge refuses for good.
    """

    store: Store
    forges: Mapping[str, Forge]
    handed_in: HandIns
    token: SecretStr
    installation: str
    branches: Branches
    broker: Broker

    def routes(self) -> APIRouter:
        router = APIRouter(prefix="/worker/runs/{task}/{fence}", include_in_schema=False)
        router.get("")(self.launch)
        router.get("/pictures/{name}", response_class=Response)(self.picture)
        router.post("/access")(self.access)
        router.post("/command")(self.command)
        router.put("/bundle", status_code=204, response_class=Response)(self.bundle)
        router.put("/transcript", status_code=204, response_class=Response)(self.transcript)
        return router

    async def launch(self, task: str, fence: int, authorization: Authorization = "") -> Launch:
        row = await self._current(task, fence, authorization)
        with _refusals():
            base = await self._forge(row.forge).default_branch(row.repo)
            row = await self.branches.settle(row)
        async with self.store.read() as conn:
            kept = await is_kept(conn, row)
            before = [r for r in await runs.of_task(conn, row.id) if r.fence < row.fence]
            pictures = await pictures_of(conn, row)
            rulings = await approvals.in_force(
                conn, repo=row.repo, task=row.id, now=datetime.now(UTC)
            )
        return launch_of(
            row,
            installation=self.installation,
            base_branch=base,
            opened=opened(rulings),
            pictures=pictures,
            kept=kept,
            spent_usd=spent_in(row.round, before),
        )

    async def picture(
        self, task: str, fence: int, name: str, authorization: Authorization = ""
    ) -> Response:
        """One that came with the request; empty if it is there no more."""
        row = await self._current(task, fence, authorization)
        async with self.store.read() as conn:
            known = {picture.name for picture in await pictures_of(conn, row)}
        path = self.handed_in.picture(name) if name in known else None
        if path is None or not path.is_file():
            return Response(status_code=204)
        content = await asyncio.to_thread(path.read_bytes)
        return Response(content, media_type="application/octet-stream")

    async def access(
        self, task: str, fence: int, repo: str | None = None, authorization: Authorization = ""
    ) -> dict[str, str | None]:
        """To the task's repository, or to another that its grant lets it read."""
        row = await self._current(task, fence, authorization)
        wanted = _readable(row, repo or row.repo)
        with _refusals():
            granted = await self._forge(wanted.forge).access(wanted.repo, write=False)
        header = granted.header.get_secret_value() if granted.header else None
        return {"url": granted.url, "header": header}

    async def command(
        self, task: str, fence: int, request: Request, authorization: Authorization = ""
    ) -> Answered:
        row = await self._current(task, fence, authorization)
        try:
            asked = Asked.model_validate_json(await request.body())
        except ValidationError as error:
            raise HTTPException(422, "that is no command") from error
        return await self.broker.run(row, asked)

    async def bundle(
        self,
        task: str,
        fence: int,
        request: Request,
        hand_in: Annotated[HandIn, Query()],
        authorization: Authorization = "",
    ) -> None:
        row = await self._current(task, fence, authorization)
        run = RunKey(task=row.id, fence=row.fence)
        try:
            await self.handed_in.keep_bundle(run, hand_in, request.stream())
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from error

    async def transcript(
        self, task: str, fence: int, request: Request, authorization: Authorization = ""
    ) -> None:
        row = await self._current(task, fence, authorization)
        try:
            await self.handed_in.keep_transcript(
                RunKey(task=row.id, fence=row.fence), request.stream()
            )
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from error

    def _forge(self, name: str) -> Forge:
        if name not in self.forges:
            raise RejectedError(name, "the forge is not switched on here")
        return self.forges[name]

    async def _current(self, task: str, fence: int, authorization: str) -> TaskRow:
        expected = f"Bearer {self.token.get_secret_value()}"
        if not secrets.compare_digest(authorization.encode(), expected.encode()):
            raise HTTPException(401, "the worker token is missing or wrong")
        async with self.store.read() as conn:
            row = await tasks.get(conn, task)
        if row is None or fence > row.fence:
            sentence = "no such run: was the database restored from an older copy?"
            raise HTTPException(404, sentence, headers={RUN_HEADER: UNKNOWN})
        if row.fence != fence or row.state not in IN_SANDBOX:
            at = f"the task is at run {row.fence}, {row.state}"
            sentence = f"run {fence} is not current: {at}"
            raise HTTPException(409, sentence, headers={RUN_HEADER: STALE})
        return row


@contextmanager
def _refusals() -> Iterator[None]:
    """Tell what is refused for good, for a 5xx is asked again; a credential may be replaced, and is waited for."""
    try:
        yield
    except AuthError:
        raise
    except RejectedError as error:
        raise HTTPException(424, f"{error.service}: {error.code}") from error


def _readable(row: TaskRow, repo: str) -> RepoRead:
    own = RepoRead(forge=row.forge, repo=row.repo)
    for found in (own, *Grant.model_validate(row.grant).reads):
        if found.repo == repo:
            return found
    raise HTTPException(403, "the run may not read that repository")
