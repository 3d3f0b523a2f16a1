"""What Docker really does with our specification, seen from inside the agent's container."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runner.docker import spec as specs
from runner.docker.containers import make_container, make_volume
from runner.errors import NotEquippedError, SandboxStartError
from runner.inside.trust import TRUST_ENV
from runner.sandbox import Sandbox
from tests.support.docker_host import (
    IMAGE_SECONDS,
    default_image,
    docker_backend,
    labelled,
    make_mirror,
)
from tests.support.messages_api import bridge_address
from tests.support.ports import free_port
from tests.support.sandboxes import DockerRig, line

pytestmark = [pytest.mark.docker, pytest.mark.timeout(IMAGE_SECONDS)]

LOOK = """
import ctypes, json, os, socket

def reach(family, address):
    try:
        with socket.socket(family) as sock:
            sock.settimeout(3)
            sock.connect(address)
    except OSError as exc:
        return type(exc).__name__ + " " + str(exc.errno)
    return "reached"

def attempt(path):
    try:
        open(path, "w").close()
    except OSError as exc:
        return os.strerror(exc.errno)
    return "written"

def read_or_none(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None

def opens(family, kind, protocol=0):
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as exc:
        return exc.errno
    return 0

status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
sockets = []
for folder, _, names in os.walk("/"):
    if not folder.startswith("/proc"):
        sockets += [os.path.join(folder, n) for n in names if n.endswith(".sock")]
print(json.dumps({
    "uid": os.getuid(), "groups": os.getgroups(),
    "cap_eff": status["CapEff"].strip(), "cap_bnd": status["CapBnd"].strip(),
    "nnp": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    "families": [opens(f, k) for f, k in ((1, 1), (2, 1), (10, 2), (16, 3), (17, 3), (38, 5), (40, 1))],
    "io_uring": ctypes.CDLL(None, use_errno=True).syscall(425, 1, None),
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "outside": reach(socket.AF_INET, ("192.0.2.1", 443)),
    "outside6": reach(socket.AF_INET6, ("2001:db8::1", 443)),
    "root": attempt("/x"), "usr": attempt("/usr/x"), "mirror": attempt("/mirror/x"),
    "code": attempt("/opt/errand/x"), "workspace": attempt("/workspace/x"),
    "transcript": attempt("/proc/1/fd/1"), "sysctl": attempt("/proc/sys/kernel/hostname"),
    "resolver": open("/etc/resolv.conf").read().split(),
    "sockets": sockets, "host": socket.gethostname(), "mounts": os.listdir("/run"),
    "programs": [read_or_none("/proc/%s/cmdline" % p) or "" for p in os.listdir("/proc") if p.isdigit()],
    "environment": sorted(os.environ),
}))
"""


CONNECT = """
import json, socket, sys

found = {}
open, other = sys.argv[1:]
for place in (f"replica.internal:{open}", f"primary.internal:{open}", f"replica.internal:{other}"):
    host, _, port = place.partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            found[place] = sock.recv(100).decode()
    except OSError as error:
        found[place] = type(error).__name__
print(json.dumps(found))
"""


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DockerRig]:
    image = default_image()
    mirror, base = make_mirror(tmp_path)
    async with docker_backend(request) as (backend, installation):
        yield DockerRig(
            backend=backend, installation=installation, image=image, mirror=mirror, base=base
        )


async def run_inside(sandbox: Sandbox, *argv: str, key: str = "look") -> dict[str, Any]:
    message = {"do": "exec", "argv": list(argv), "cwd": "/", "timeout": 20, "tail": 65536}
    await sandbox.send("agent", key=key, to="init", msg=message)
    return (await line(sandbox, "agent", kind="exit", key=key)).model_dump()


async def test_the_agent_finds_itself_contained(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    found = json.loads((await run_inside(sandbox, "python3", "-c", LOOK))["tail"])
    programs = found.pop("programs")
    assert not [p for p in programs if "acceptor" in p or "gateway" in p]
    assert found.pop("outside").endswith(" 101")
    assert found.pop("outside6").split()[-1] in {"99", "101"}
    assert found == {
        "uid": 10001,
        "groups": [10001],
        "cap_eff": "0" * 16,
        "cap_bnd": "0" * 16,
        "nnp": "1",
        "seccomp": "2",
        "families": [0, 0, 0, 0, 1, 1, 1],
        "io_uring": -1,
        "interfaces": ["lo"],
        "root": "Read-only file system",
        "usr": "Read-only file system",
        "code": "Read-only file system",
        "mirror": "Read-only file system",
        "sysctl": "Read-only file system",
        "workspace": "written",
        "transcript": "Permission denied",
        "resolver": ["nameserver", "127.0.0.1"],
        "sockets": [],
        "host": "sandbox",
        "mounts": found["mounts"],
        "environment": sorted(["GIT_TERMINAL_PROMPT", "HOME", "LANG", "PATH", "TERM", *TRUST_ENV]),
    }


async def test_a_fork_bomb_ends_in_the_container(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    spec = rig.spec()
    script = (
        "import os, signal, sys\n"
        "children = 0\n"
        "while True:\n"
        "    try:\n"
        "        pid = os.fork()\n"
        "    except BlockingIOError:\n"
        "        break\n"
        "    if not pid:\n"
        "        signal.pause()\n"
        "    children += 1\n"
        "print(children)\n"
        "sys.stdout.flush()\n"
        "os.killpg(0, signal.SIGKILL)\n"
    )
    ended = await run_inside(sandbox, "python3", "-c", script)
    assert 0 < int(ended["tail"]) < spec.limits.pids


async def test_a_full_workspace_is_an_error_and_no_more(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec(memory_mib=128))
    await sandbox.ensure()
    ended = await run_inside(
        sandbox,
        "sh",
        "-c",
        "head -c 80M /dev/zero > /workspace/big || echo full; rm /workspace/big",
    )
    assert ended["tail"].endswith("full\n")
    assert await sandbox.exit_status("agent") is None


async def test_a_name_that_policy_does_not_list_is_refused_by_the_gateway(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    policy = {"do": "policy", "egress": [], "publish": {}}
    await sandbox.send("gateway", key="policy", to="init", msg=policy)
    await line(sandbox, "gateway", kind="ready")
    await line(sandbox, "acceptor", kind="ready")
    ended = await run_inside(
        sandbox, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://never.example.test/"
    )
    assert ended["tail"] == "403"
    decision = await line(sandbox, "gateway", kind="decision")
    assert decision.model_dump()["host"] == "never.example.test"
    assert decision.model_dump()["verdict"] == "deny"


async def test_a_port_of_a_connection_leads_to_its_server_and_no_other_does(rig: DockerRig) -> None:
    host = bridge_address()
    with socket.create_server((host, free_port(host))) as server:
        port = int(server.getsockname()[1])
        threading.Thread(target=greet, args=(server,), daemon=True).start()
        sandbox = rig.backend.open(rig.spec().model_copy(update={"ports": (port,)}))
        await sandbox.ensure()
        replica = {"kind": "tcp", "name": "replica", "host": host, "port": port, "private": True}
        policy = {"do": "policy", "egress": [], "connections": [replica]}
        await sandbox.send("gateway", key="policy", to="init", msg=policy)
        await line(sandbox, "gateway", kind="ready")
        await line(sandbox, "acceptor", kind="ready")
        ended = await run_inside(sandbox, "python3", "-c", CONNECT, str(port), str(port + 1))
    assert json.loads(ended["tail"]) == {
        f"replica.internal:{port}": "hello",
        f"primary.internal:{port}": "",
        f"replica.internal:{port + 1}": "ConnectionRefusedError",
    }


def greet(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client, _ = server.accept()
        with client:
            client.sendall(b"hello")


async def test_the_agent_trusts_what_the_gateway_says_over_tls(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    policy = {"do": "policy", "egress": [], "publish": {}, "seconds": 60}
    await sandbox.send("gateway", key="policy", to="init", msg=policy)
    await line(sandbox, "gateway", kind="ready")
    await line(sandbox, "acceptor", kind="ready")
    ended = await run_inside(
        sandbox, "curl", "-sS", "-w", " %{http_code}", "https://never.example.test/a", key="curl"
    )
    assert "never.example.test is not on the list of hosts" in ended["tail"]
    assert ended["tail"].endswith(" 403")
    read = "import urllib.request as u\ntry:\n    u.urlopen('https://never.example.test/')\nexcept OSError as e:\n    print(e)"
    ended = await run_inside(sandbox, "python3", "-c", read, key="python")
    assert ended["tail"] == "HTTP Error 403: Forbidden\n"
    script = "cd /run/trust && ls && (touch x 2>&1 || true) && cat errand.pem"
    said = (await run_inside(sandbox, "sh", "-c", script, key="files"))["tail"]
    assert said.startswith("bundle.jks\nbundle.pem\nerrand.pem\n")
    assert "Read-only file system" in said
    assert "PRIVATE KEY" not in said


async def test_what_may_be_read_is_cloned_and_nothing_else(rig: DockerRig) -> None:
    spec = rig.spec().model_copy(update={"reads": (("acme/library", rig.mirror),)})
    sandbox = rig.backend.open(spec)
    await sandbox.ensure()
    policy = {"do": "policy", "egress": [], "repo": "acme/web", "branch": "errand/x"}
    policy |= {"base": rig.base, "reads": ["acme/library"]}
    await sandbox.send("gateway", key="policy", to="init", msg=policy)
    await line(sandbox, "gateway", kind="ready")
    await line(sandbox, "acceptor", kind="ready")
    clone = "cd /workspace; git clone -q http://git.internal/acme/$1.git $1 2>&1; git -C $1 rev-parse HEAD 2>&1"
    for repo in ("library", "web"):
        ended = await run_inside(sandbox, "sh", "-c", clone, "sh", repo, key=repo)
        assert ended["tail"] == f"{rig.base}\n"
    refused = await run_inside(sandbox, "sh", "-c", clone, "sh", "secret", key="refused")
    assert "The requested URL returned error: 403" in refused["tail"]
    assert (await run_inside(sandbox, "ls", "/reads", key="ls"))["status"] != 0


async def test_a_container_that_differs_from_its_specification_is_removed(rig: DockerRig) -> None:
    spec = rig.spec()
    engine = rig.backend.open(spec)._engine
    wanted = specs.acceptor(spec, image=rig.image, version="v")
    wider = {**wanted.body, "HostConfig": {**wanted.body["HostConfig"], "ReadonlyRootfs": False}}
    body = specs.volume_body(spec, version="v")
    await engine.starting(lambda api: make_volume(api, body))
    await engine.starting(lambda api: api.create_container_from_config(wider, wanted.name))  # type: ignore[no-untyped-call]
    with pytest.raises(SandboxStartError, match="ReadonlyRootfs"):
        await rig.backend.open(spec).ensure()
    names = labelled(engine.api(), rig.installation)
    assert f"/{wanted.name}" not in names


async def test_a_container_of_somebody_else_with_our_name_is_left_alone(rig: DockerRig) -> None:
    spec = rig.spec()
    engine = rig.backend.open(spec)._engine
    other = spec.model_copy(update={"installation": f"{rig.installation}-other"})
    wanted = specs.acceptor(other, image=rig.image, version="v")
    body = specs.volume_body(other, version="v")
    await engine.starting(lambda api: make_volume(api, body))
    await engine.starting(lambda api: make_container(api, wanted))
    try:
        with pytest.raises(SandboxStartError, match="not ours"):
            await rig.backend.open(spec).ensure()
        assert f"/{wanted.name}" in labelled(engine.api(), other.installation)
    finally:
        await rig.backend.open(other).remove()


async def test_nothing_is_made_after_remove_by_a_cancelled_ensure(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sandbox.ensure()
    await sandbox.remove()
    async with asyncio.timeout(20):
        await sandbox.remove()
    assert labelled(sandbox._engine.api(), rig.installation) == []


async def test_a_reader_that_is_slow_gets_every_line(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    script = "for i in $(seq 1 300); do echo $i-$(head -c 3000 /dev/zero | tr '\\0' x); done"
    follower, text = sandbox.follow("agent"), ""
    assert (await anext(follower)).kind == "ready"
    await run_inside(sandbox, "sh", "-c", script)
    async for found in follower:
        if found.kind == "exit":
            break
        text += found.model_dump().get("text", "")
    assert [part.partition("-")[0] for part in text.split()] == [str(i) for i in range(1, 301)]


async def test_the_image_says_where_its_packages_come_from(rig: DockerRig) -> None:
    engine = rig.backend.open(rig.spec())._engine
    found = await engine.running(lambda api: api.inspect_image(rig.image))  # type: ignore[no-untyped-call]
    said = json.loads(found["Config"]["Labels"]["errand.registries"])
    assert all(isinstance(host, str) or set(host) >= {"host"} for host in said["python"])
    assert said["python"]
    assert said["debian"]
    assert said["node"] == []


async def test_a_denied_program_is_a_note_under_every_name(rig: DockerRig) -> None:
    spec = rig.spec().model_copy(update={"denied": ("curl", "perl", "no-such-program")})
    sandbox = rig.backend.open(spec)
    await sandbox.ensure()
    script = (
        "for p in curl /usr/bin/curl /proc/self/root/usr/bin/curl perl; do $p; echo $?; done 2>&1\n"
        "cp /usr/bin/curl /workspace/c; /workspace/c 2>&1; umount /usr/bin/curl 2>/dev/null || echo held\n"
        "echo x 2>/dev/null > /usr/bin/curl || echo held; git --version >/dev/null && echo git"
    )
    said = (await run_inside(sandbox, "sh", "-c", script))["tail"]
    assert said.count("denied by policy") == 5
    assert said.count("\n126\n") == 4
    assert said.endswith("held\nheld\ngit\n")
    again = rig.backend.open(spec)
    await again.ensure()
    assert (await line(again, "agent", kind="exit", key="look")).n > 1, "adopted, not made anew"


async def test_what_a_run_needs_cannot_be_denied(rig: DockerRig) -> None:
    spec = rig.spec().model_copy(update={"denied": ("python3.11", "dash")})
    with pytest.raises(NotEquippedError, match="python3, sh"):
        await rig.backend.open(spec).ensure()


async def test_gvisor_runs_the_agent_or_nothing_does(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec().model_copy(update={"runtime": "runsc"}))
    known = await sandbox._engine.running(lambda api: "runsc" in api.info()["Runtimes"])
    if known:
        await sandbox.ensure()
        assert (await line(sandbox, "agent", kind="ready")).n == 1
    else:
        with pytest.raises(SandboxStartError, match="install gVisor"):
            await sandbox.ensure()


async def test_no_program_of_the_image_can_change_its_user(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    search = "find / -xdev -perm /6000 -type f 2>/dev/null | wc -l"
    assert (await run_inside(sandbox, "sh", "-c", search))["tail"] == "0\n"


async def test_what_a_user_installs_is_found_after_what_the_image_has(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    script = (
        "mkdir -p ~/.local/bin; for p in mine git; do printf '#!/bin/sh\necho %s\n' $p > ~/.local/bin/$p; done\n"
        "chmod +x ~/.local/bin/*; mine; command -v git; python3 -m venv ~/v && ~/v/bin/pip --version >/dev/null && echo venv"
    )
    ended = await run_inside(sandbox, "sh", "-c", script)
    assert ended["tail"] == "mine\n/usr/bin/git\nvenv\n"


async def test_gh_is_run_by_whoever_answers_for_it(rig: DockerRig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    policy = {"do": "policy", "egress": [], "private": [], "publish": {}, "broker": ["gh"]}
    await sandbox.send("gateway", key="policy", to="init", msg=policy)
    await line(sandbox, "gateway", kind="ready")
    await line(sandbox, "acceptor", kind="ready")
    async with asyncio.TaskGroup() as group:
        said = group.create_task(run_inside(sandbox, "gh", "pr", "view", "it's 7"))
        asked = (await line(sandbox, "gateway", kind="ask")).model_dump()
        assert (asked["tool"], asked["argv"]) == ("gh", ["pr", "view", "it's 7"])
        answer = {"do": "answer", "id": asked["id"], "verdict": "allow", "reason": "", "status": 3}
        answer |= {"stdout": "Fix the login test\n", "stderr": ""}
        await sandbox.send("gateway", key="answer:1", to="init", msg=answer)
    assert (said.result()["status"], said.result()["tail"]) == (3, "Fix the login test\n")
