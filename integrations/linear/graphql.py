"""GraphQL over HTTP with our errors: one attempt per call, since only the caller knows what is safe twice."""

import asyncio
from contextlib import AsyncExitStack
from functools import cache
from types import SimpleNamespace
from typing import Any

import aiohttp
from gql import Client, GraphQLRequest, gql
from gql.client import AsyncClientSession
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportError
from graphql import DocumentNode

from integrations.errors import UnavailableError
from integrations.linear.limits import LimitWatch
from integrations.linear.refusals import SERVICE, mapped

FIRST_SIGN_SECONDS = 4.0
"""Linear gives ten seconds until a session must show life."""
CALL_SECONDS = 10.0
UNREADABLE = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What gql raises where an answer is JSON, and not GraphQL's."""


@cache
def _parsed(document: str) -> DocumentNode:
    return gql(document).document


class GraphQL:
    """One connection pool for all workspaces: each call brings its token.

    Made without a running loop; the connection opens with the first call.
    """

    def __init__(self, api_url: str) -> None:
        self._url = f"{api_url}/graphql"
        self._opened: tuple[AsyncExitStack, AsyncClientSession] | None = None
        self._opening = asyncio.Lock()
        self._limits = LimitWatch()

    # Any: variables and data are JSON, which the caller gives a shape.
    async def execute(
        self, document: str, variables: dict[str, Any], *, token: str, seconds: float = CALL_SECONDS
    ) -> Any:
        """The answer's `data`. Raises `IntegrationError`'s leaves, and nothing else."""
        request = GraphQLRequest(_parsed(document), variable_values=variables)
        headers: dict[str, str] = {}
        more = {
            "headers": {"Authorization": f"Bearer {token}"},
            "allow_redirects": False,
            "trace_request_ctx": headers,
        }
        try:
            async with asyncio.timeout(seconds):
                session = await self._open()
                return await session.execute(request, extra_args=more)
        except TransportError as error:
            raise mapped(error, headers) from error
        except UNREADABLE as error:
            raise UnavailableError(
                SERVICE, f"unreadable answer ({type(error).__name__})"
            ) from error
        except TimeoutError as error:
            raise UnavailableError(SERVICE, f"no answer within {seconds:g} s") from error
        finally:
            self._limits.saw(headers)

    async def _open(self) -> AsyncClientSession:
        async with self._opening:
            if self._opened is None:
                stack = AsyncExitStack()
                client = Client(transport=self._transport(), execute_timeout=None)
                self._opened = (stack, await stack.enter_async_context(client))
            return self._opened[1]

    def _transport(self) -> AIOHTTPTransport:
        tracing = aiohttp.TraceConfig()
        tracing.on_request_end.append(_keep_headers)
        return AIOHTTPTransport(
            self._url, client_session_args={"trace_configs": [tracing], "trust_env": True}
        )

    async def close(self) -> None:
        """Safe twice; a later call opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened[0].aclose()


async def _keep_headers(
    _session: aiohttp.ClientSession, call: SimpleNamespace, end: aiohttp.TraceRequestEndParams
) -> None:
    """For gql keeps the last answer's headers only, whoever's they are: each call gets its own."""
    kept: dict[str, str] = call.trace_request_ctx
    kept.update({name.lower(): value for name, value in end.response.headers.items()})
