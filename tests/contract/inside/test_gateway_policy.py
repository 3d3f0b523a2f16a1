from pathlib import Path

import pytest

from tests.contract.inside.programs import program
from tests.contract.inside.run import (
    ALLOWED,
    OTHER,
    Origin,
    Run,
    answer_and_close,
    get,
    origin,
    policy,
    read_all,
    request,
    running,
)

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2", "127.99.0.1"])


def test_an_empty_policy_denies_everything(tmp_path: Path) -> None:
    with running(tmp_path, rules=policy()) as run:
        assert b" 403 " in request(run, get(ALLOWED))


def test_a_later_policy_counts_at_once(answering: tuple[Run, Origin]) -> None:
    run, _ = answering
    assert b" 403 " in request(run, get(OTHER), host=OTHER)
    run.gateway.send("policy:2", policy(ALLOWED, OTHER))
    run.gateway.wait_line("received", key="policy:2")
    assert request(run, get(OTHER), host=OTHER).endswith(b"ok")


def test_a_broken_policy_leaves_the_last_good_one(answering: tuple[Run, Origin]) -> None:
    run, _ = answering
    run.gateway.send("policy:2", {"do": "policy", "egress": ["*"]})
    run.gateway.wait_line("received", key="policy:2")
    assert request(run, get(ALLOWED)).endswith(b"ok")
    assert b" 403 " in request(run, get(OTHER), host=OTHER)


def test_a_first_policy_that_is_broken_ends_the_gateway(tmp_path: Path) -> None:
    path = tmp_path / "gw.sock"
    with program("runner.inside.gateway", f"--socket={path}") as gateway:
        gateway.send("policy", {"do": "policy", "egress": "everything"})
        assert gateway.ended() == 70
        assert not path.exists()


def test_the_policy_is_not_in_the_log(answering: tuple[Run, Origin]) -> None:
    run, _ = answering
    assert run.gateway.wait_line("received", key="policy").keys() == {"n", "at", "kind", "key"}


def test_a_private_address_needs_policy(tmp_path: Path) -> None:
    names = {ALLOWED: ["10.0.0.5"], OTHER: ["10.0.0.5"]}
    with (
        origin(answer_and_close) as server,
        running(
            tmp_path,
            rules=policy(ALLOWED, OTHER, private=(OTHER,)),
            names=names,
            addresses={"10.0.0.5": server.port},
        ) as run,
    ):
        assert b" 403 " in request(run, get(ALLOWED))
        assert request(run, get(OTHER), host=OTHER).endswith(b"ok")


def test_a_port_outside_policy_is_closed(echoing: tuple[Run, Origin]) -> None:
    run, server = echoing
    with run.connect(ALLOWED, 8000) as sock:
        assert read_all(sock) == b""
    assert run.decision("deny")["port"] == 8000
    assert server.connections == 0
