"""What people see of the local forge. Every word on these pages may come from an agent: all of it is escaped."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from integrations.errors import IntegrationError, RejectedError
from integrations.localforge import diff, repository
from integrations.localforge.pulls import Pulls
from integrations.localforge.repository import MAX_DIFF, SERVICE, Repository

_MAX_NUMBER: Final = 2**31
_TEMPLATES = FilePath(__file__).with_name("templates")
_CSS = (_TEMPLATES / "forge.css").read_text()
_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Pages:
    def __init__(self, root: FilePath, pulls: Pulls) -> None:
        self._root = root
        self._pulls = pulls
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
        )
        self._templates.filters["visible"] = diff.visible
        # The one text that is not escaped: our own file, and the policy's hash is of it as it is.
        self._templates.globals["css"] = Markup(_CSS)  # noqa: S704 - a file of this package

    def router(self) -> APIRouter:
        """Plain functions, so that FastAPI runs their blocking reads in threads."""
        router = APIRouter(
            prefix="/forge", include_in_schema=False, default_response_class=HTMLResponse
        )

        @router.get("/")
        def repositories() -> HTMLResponse:
            return self._answer(lambda: self._page("repositories", names=self._names()))

        @router.get("/{owner}/{name}")
        def one_repository(owner: str, name: str) -> HTMLResponse:
            return self._answer(lambda: self._repository(f"{owner}/{name}"))

        @router.get("/{owner}/{name}/pulls/{number}")
        def pull_request(
            owner: str, name: str, number: Annotated[int, Path(ge=1, le=_MAX_NUMBER)]
        ) -> HTMLResponse:
            return self._answer(lambda: self._pull(f"{owner}/{name}", number))

        return router

    def _answer(self, page: Callable[[], str]) -> HTMLResponse:
        try:
            return HTMLResponse(page(), headers=HEADERS)
        except RejectedError as error:
            text, status = error.code, 404
        except IntegrationError as error:
            text, status = str(error), 503
        return HTMLResponse(self._page("problem", text=text), status_code=status, headers=HEADERS)

    def _names(self) -> list[str]:
        return repository.found(self._root)

    def _repository(self, name: str) -> str:
        opened = Repository(self._root, name).opened()
        return self._page(
            "repository",
            repo=name,
            url=opened.path.as_uri(),
            default=opened.default_branch(),
            branches=opened.branches(),
            pulls=self._pulls.of(name),
        )

    def _pull(self, name: str, number: int) -> str:
        opened = Repository(self._root, name).opened()
        pull = self._pulls.get(name, number)
        if pull is None:
            raise RejectedError(SERVICE, f"{name} has no pull request {number}")
        there = opened.has_branch(pull.head) and opened.has_branch(pull.base)
        patch = opened.diff(base=pull.base, head=pull.head) if there else ""
        files = diff.parse(patch)
        return self._page(
            "pull",
            pull=pull,
            there=there,
            url=opened.path.as_uri(),
            commits=opened.commits(base=pull.base, head=pull.head) if there else [],
            files=files[: diff.MAX_FILES],
            hidden=max(0, len(files) - diff.MAX_FILES),
            cut=len(patch) >= MAX_DIFF,
            added=sum(file.added for file in files),
            removed=sum(file.removed for file in files),
        )

    def _page(self, template: str, **values: Any) -> str:
        return self._templates.get_template(f"{template}.html").render(**values)
