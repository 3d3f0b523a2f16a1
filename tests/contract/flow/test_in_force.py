import asyncio
from pathlib import Path

import pytest

from bot.in_force import InForce, PolicyFile
from bot.store import audit
from bot.store.rows import AuditRow
from policies.load import load_policy
from tests.contract.flow.office import Office
from tests.support.site import until

FIRST = "version: 1\n"
SECOND = "version: 1\nlimits: {tasks: 7}\n"


@pytest.fixture
def file(office: Office, tmp_path: Path) -> PolicyFile:
    path = tmp_path / "policy.yml"
    path.write_text(FIRST)
    in_force = InForce(load_policy(path))
    return PolicyFile(path=path, in_force=in_force, store=office.store, look_seconds=0.01)


async def recorded(office: Office) -> list[AuditRow]:
    async with office.store.read() as conn:
        return await audit.of_task(conn, "")


async def test_a_new_version_counts_and_is_on_record(office: Office, file: PolicyFile) -> None:
    before = file.in_force.policy
    file.path.write_text(SECOND)
    await file.look()
    assert (before.limits.tasks, file.in_force.policy.limits.tasks) == (20, 7)
    [row] = await recorded(office)
    assert (row.decision, row.policy_hash) == ("loaded", file.in_force.policy.hash)


async def test_what_was_written_while_serve_started_counts(office: Office, tmp_path: Path) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(FIRST)
    in_force = InForce(load_policy(path))
    path.write_text(SECOND)
    await PolicyFile(path=path, in_force=in_force, store=office.store).look()
    assert in_force.policy.limits.tasks == 7


@pytest.mark.parametrize("content", ["version: 2\n", "", "rules: [", None])
async def test_what_cannot_be_used_changes_nothing_and_is_told_once(
    office: Office, file: PolicyFile, content: str | None
) -> None:
    before = file.in_force.policy
    file.path.unlink() if content is None else file.path.write_text(content)
    await file.look()
    await file.look()
    assert file.in_force.policy is before
    [row] = await recorded(office)
    assert (row.decision, row.policy_hash) == ("refused", before.hash)
    assert str(file.path) in row.detail["error"]
    file.path.write_text(SECOND)
    await file.look()
    assert file.in_force.policy.limits.tasks == 7


async def test_a_comment_is_no_new_version(office: Office, file: PolicyFile) -> None:
    before = file.in_force.policy
    file.path.write_text(f"# said\n{FIRST}")
    await file.look()
    assert file.in_force.policy is before
    assert await recorded(office) == []


async def test_it_looks_by_itself(file: PolicyFile) -> None:
    looking = asyncio.create_task(file.run())
    file.path.write_text(SECOND)
    await until(lambda: file.in_force.policy.limits.tasks == 7)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
