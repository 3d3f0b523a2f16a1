"""The HTTP API that workers use: what to run, how to read the repository, and where to hand in."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from pydantic import SecretStr

from bot.handin import HandIn, HandIns, TooLargeError
from bot.launch import launch_of
from bot.states import IN_SANDBOX
from bot.store import tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from integrations.forge import Forge
from runner.protocol import Launch, RunKey


def worker_routes(
    *,
    store: Store,
    forges: dict[str, Forge],
    handed_in: HandIns,
    token: SecretStr,
    installation: str,
) -> APIRouter:
    """Routes under `/worker`: 401 without the token, 404 for an unknown task, 409 for a run that is not current."""

    def authorize(authorization: Annotated[str, Header()] = "") -> None:
        expected = f"Bearer {token.get_secret_value()}"
        if not secrets.compare_digest(authorization.encode(), expected.encode()):
            raise HTTPException(401, "the worker token is missing or wrong")

    async def current(task: str, fence: int) -> TaskRow:
        async with store.read() as conn:
            row = await tasks.get(conn, task)
        if row is None:
            raise HTTPException(404, "no such task")
        if row.fence != fence or row.state not in IN_SANDBOX:
            raise HTTPException(
                409, f"run {fence} is not current: the task is at {row.fence}, {row.state}"
            )
        return row

    router = APIRouter(
        prefix="/worker/runs/{task}/{fence}",
        dependencies=[Depends(authorize)],
        include_in_schema=False,
    )
    Current = Annotated[TaskRow, Depends(current)]

    @router.get("")
    async def launch(row: Current) -> Launch:
        base = await forges[row.forge].default_branch(row.repo)
        return launch_of(row, installation=installation, base_branch=base)

    @router.post("/access")
    async def access(row: Current) -> dict[str, str | None]:
        granted = await forges[row.forge].access(row.repo, write=False)
        header = granted.header.get_secret_value() if granted.header else None
        return {"url": granted.url, "header": header}

    @router.put("/bundle", status_code=204)
    async def bundle(
        row: Current, request: Request, head: Annotated[str, Query()], base: Annotated[str, Query()]
    ) -> Response:
        run = RunKey(task=row.id, fence=row.fence)
        try:
            await handed_in.keep_bundle(run, HandIn(head=head, base=base), request.stream())
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from error
        return Response(status_code=204)

    @router.put("/transcript", status_code=204)
    async def transcript(row: Current, request: Request) -> Response:
        try:
            await handed_in.keep_transcript(RunKey(task=row.id, fence=row.fence), request.stream())
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from error
        return Response(status_code=204)

    return router
