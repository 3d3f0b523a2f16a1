"""The stand-in fails as Linear can, when a test wants it to."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from gql.transport.exceptions import (
    TransportConnectionFailed,
    TransportQueryError,
    TransportServerError,
)

from tests.contract.linear.conftest import Asker, asker
from tests.support.linear import faults
from tests.support.linear.entities import Session
from tests.support.linear.errors import forbidden
from tests.support.linear.oauth import TOKEN
from tests.support.linear.server import LinearApi

ME = "query Me { viewer { name } }"
ACT = "mutation Act($input: AgentActivityCreateInput!) { agentActivityCreate(input: $input) { success } }"
READ = """
query Read($id: String!) {
  agentSession(id: $id) { status plan issue { title project { name } labels(first: 3) { nodes { name } } } }
}
"""


@pytest.fixture
async def session(linear: LinearApi) -> Session:
    issue = linear.world.issue("Fix", project="Web", labels=["bug"])
    return await linear.people.delegate(issue)


def thought(session: Session) -> dict[str, Any]:
    return {"agentSessionId": session.id, "content": {"type": "thought", "body": "hm"}}


async def fails(ask: Asker, document: str, **variables: Any) -> TransportQueryError:
    with pytest.raises(TransportQueryError) as raised:
        await ask(document, **variables)
    return raised.value


def code(error: TransportQueryError) -> str:
    assert error.errors
    found: str = error.errors[0]["extensions"]["code"]
    return found


async def test_rate_limits_are_told_by_status_400_and_a_reset_in_milliseconds(
    linear: LinearApi, ask: Asker
) -> None:
    linear.faults.add(faults.rate_limited(30, retry_after=True))
    assert code(await fails(ask, ME)) == "RATELIMITED"
    assert linear.requests[-1].status == 400
    headers = ask.transport.response_headers
    assert headers is not None
    assert headers["X-RateLimit-Requests-Remaining"] == "0"
    assert headers["Retry-After"] == "30"
    reset = int(headers["X-RateLimit-Requests-Reset"]) / 1000
    assert 25 < reset - time.time() <= 30
    assert await ask(ME)


async def test_a_limit_counts_from_its_answer_not_from_its_order(
    linear: LinearApi, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = faults.rate_limited(30)
    later = time.time() + 600
    monkeypatch.setattr(faults, "time", SimpleNamespace(time=lambda: later))
    linear.faults.add(fault)
    await fails(ask, ME)
    headers = ask.transport.response_headers
    assert headers is not None
    assert int(headers["X-RateLimit-Requests-Reset"]) == int((later + 30) * 1000)


async def test_the_real_limit_holds_too(linear: LinearApi, ask: Asker) -> None:
    linear.limits.requests.used = 4_999
    await ask(ME)
    assert code(await fails(ask, ME)) == "RATELIMITED"
    linear.limits.requests.used = 0
    status = await ask(
        "{ rateLimitStatus { kind limits { type allowedAmount remainingAmount reset } } }"
    )
    limits = {limit["type"]: limit for limit in status["rateLimitStatus"]["limits"]}
    assert limits["requests"]["allowedAmount"] == 5_000
    assert limits["complexity"]["allowedAmount"] == 2_000_000


async def test_every_answer_tells_its_cost(linear: LinearApi, ask: Asker) -> None:
    await ask("{ issues(first: 20) { nodes { id title } } }")
    headers = ask.transport.response_headers
    assert headers is not None
    assert linear.requests[-1].points == pytest.approx(24.0)
    assert headers["X-Complexity"] == "24"
    assert headers["X-RateLimit-Requests-Limit"] == "5000"
    assert headers["X-RateLimit-Requests-Remaining"] == "4999"
    assert int(headers["X-RateLimit-Complexity-Remaining"]) < 2_000_000


async def test_a_query_that_asks_for_too_much_is_refused(ask: Asker) -> None:
    document = "{ issues(first: 250) { nodes { comments(first: 50) { nodes { id } } } } }"
    error = await fails(ask, document)
    assert "complex" in str(error)


async def test_fragments_count_as_what_they_hold(linear: LinearApi, ask: Asker) -> None:
    await ask(
        "query Me { viewer { ...who ... on User { email } } } fragment who on User { id name }"
    )
    assert linear.requests[-1].points == pytest.approx(1.3)


async def test_a_proxy_may_answer_instead_before_or_after_the_effect(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    linear.faults.add(faults.server_error(502))
    linear.faults.add(faults.server_error(504, effect=True))
    for status, made in ((502, 0), (504, 1)):
        with pytest.raises(TransportServerError) as raised:
            await ask(ACT, input=thought(session))
        assert (raised.value.code, len(session.history)) == (status, made)


@pytest.mark.parametrize(("effect", "made"), [(False, 0), (True, 1)])
async def test_the_line_may_be_cut_before_or_after_the_effect(
    linear: LinearApi, ask: Asker, session: Session, *, effect: bool, made: int
) -> None:
    linear.faults.add(faults.cut(effect=effect), operation="agentActivityCreate")
    with pytest.raises(TransportConnectionFailed):
        await ask(ACT, input=thought(session))
    assert len(session.history) == made
    assert linear.requests[-1].status is None


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
async def test_an_answer_may_come_too_late(
    linear: LinearApi, session: Session, when: faults.When, made: int
) -> None:
    linear.faults.add(faults.held(when), operation="Act")
    async with asker(linear, seconds=0.2) as hasty:
        with pytest.raises(TimeoutError):
            await hasty(ACT, input=thought(session))
        assert len(session.history) == made
        linear.release()
        await linear.until(lambda: len(session.history) == 1)


async def test_a_slow_answer_is_an_answer(linear: LinearApi, ask: Asker) -> None:
    linear.faults.add(faults.held("before"))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask(ME))
        await linear.until(lambda: linear.holding == 1)
        linear.release()
    assert asking.result() == {"viewer": {"name": "Errand"}}


async def test_errors_can_be_ordered(linear: LinearApi, ask: Asker) -> None:
    linear.faults.add(faults.duplicate("Comment", "c-1"))
    linear.faults.add(faults.permanent("The issue is archived."))
    linear.faults.add(faults.failed(forbidden("No.")))
    found = [await fails(ask, ME) for _ in range(3)]
    assert [code(error) for error in found] == ["INPUT_ERROR", "INPUT_ERROR", "FORBIDDEN"]
    assert "conflict on insert of Comment" in str(found[0])
    assert found[1].errors
    assert found[1].errors[0]["extensions"]["userError"] is True


async def test_data_may_be_partial(linear: LinearApi, ask: Asker, session: Session) -> None:
    linear.faults.add(faults.partial("agentSession.issue.project"))
    error = await fails(ask, READ, id=session.id)
    assert error.data
    assert error.data["agentSession"]["status"] == "pending"
    assert error.data["agentSession"]["issue"]["project"] is None
    assert error.errors
    assert error.errors[0]["path"] == ["agentSession", "issue", "project"]
    assert linear.requests[-1].status == 200


async def test_values_may_be_new_or_missing(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    linear.faults.add(faults.unknown("agentSession.status"), operation="agentSession")
    linear.faults.add(faults.missing("agentSession.issue", "agentSession.plan"))
    linear.faults.add(faults.unknown("agentSession.issue.labels.nodes.0.name", "x"))
    assert (await ask(READ, id=session.id))["agentSession"]["status"] == "somethingNew"
    assert (await ask(READ, id=session.id))["agentSession"]["issue"] is None
    read = (await ask(READ, id=session.id))["agentSession"]
    assert read["issue"]["labels"]["nodes"] == [{"name": "x"}]


async def test_a_fault_is_for_its_operation_and_for_so_many_times(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    linear.faults.add(faults.permanent(), operation="agentActivityCreate", times=2)
    await ask(ME)
    for _ in range(2):
        await fails(ask, ACT, input=thought(session))
    await ask(ACT, input=thought(session))
    assert len(session.history) == 1


async def test_requests_are_counted_by_operation_and_by_field(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    await ask(ME)
    await ask(ACT, input=thought(session))
    assert (linear.count(), linear.count("Me"), linear.count("viewer")) == (2, 1, 1)
    assert linear.inputs("agentActivityCreate") == [thought(session)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"nonsense", "The body is not JSON"),
        (b"[]", "The body is not an object"),
        (b'{"query": "{"}', "Syntax Error: Expected Name, found <EOF>."),
        (b'{"query": "{ colour }"}', "Cannot query field 'colour' on type 'Query'."),
        (b'{"query": "query A { viewer { id } } query B { viewer { id } }"}', "Unknown operation, or more than one"),
        (b'{"query": "query A($i: String!) { issue(id: $i) { id } }"}', "Variable '$i'"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_the_schema_is_status_400(
    linear: LinearApi, body: bytes, message: str
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{linear.url}/graphql", content=body, headers=headers)
    [error] = answer.json()["errors"]
    assert answer.status_code == 400
    assert error["message"].startswith(message)
    assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
