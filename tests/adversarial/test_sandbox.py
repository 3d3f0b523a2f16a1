"""An attacker in a real sandbox, whose canaries are on the host."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.docker.sandbox import DockerSandbox
from runner.docker.spec import ROLES
from runner.errors import SandboxLostError
from runner.git import Git
from runner.sandbox import Sandbox
from tests.adversarial import probes, pushes
from tests.adversarial.canaries import (
    DnsCanary,
    HttpCanary,
    Secret,
    dns_canary,
    http_canary,
)
from tests.contract.test_seccomp import NUMBERS
from tests.support.docker_host import IMAGE_SECONDS, default_image, docker_backend, make_mirror
from tests.support.messages_api import bridge_address
from tests.support.sandboxes import DockerRig, line, whole

pytestmark = [pytest.mark.docker, pytest.mark.timeout(IMAGE_SECONDS)]

PROGRAM = Path(__file__).with_name("inside.py").read_text()
PROBE_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    rig: DockerRig
    http: HttpCanary
    dns: DnsCanary
    secret: Secret
    abstract: str

    def policy(self) -> dict[str, Any]:
        requests = [{"methods": ["GET"], "paths": ["/ok"]}]
        upstream = {"upstream": f"http://{self.http_host}:{self.http.port}", "private": True}
        credential = {"secret": self.secret.value, "header": "x-api-key", "scheme": "", "user": ""}
        canary = {"kind": "http", "name": "canary", "requests": requests, **upstream, **credential}
        hosts = [{"host": "registry.example.test", "methods": ["GET", "HEAD"]}]
        base = {"repo": "acme/web", "branch": "errand/x", "base": self.rig.base}
        return {"do": "policy", "egress": hosts, "publish": {}, "connections": [canary], **base}

    @property
    def http_host(self) -> str:
        return bridge_address()


@pytest.fixture
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    image, host, secret = default_image(), bridge_address(), Secret()
    mirror, base = make_mirror(tmp_path)
    answer = f"HTTP/1.1 200 OK\r\ncontent-length: {len(secret.value)}\r\n\r\n{secret.value}"
    async with docker_backend(request) as (backend, installation):
        rig = DockerRig(
            backend=backend, installation=installation, image=image, mirror=mirror, base=base
        )
        with (
            http_canary(host, answer=answer.encode()) as http,
            dns_canary({}, host) as dns,
            listening(installation) as abstract,
        ):
            yield Site(rig=rig, http=http, dns=dns, secret=secret, abstract=abstract)


@contextmanager
def listening(name: str) -> Iterator[str]:
    """An abstract socket of the host."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0{name}")
        sock.listen()
        yield name


@asynccontextmanager
async def opened(site: Site, *, memory_mib: int = 512) -> AsyncIterator[DockerSandbox]:
    sandbox = site.rig.backend.open(site.rig.spec(memory_mib=memory_mib))
    await sandbox.ensure()
    await sandbox.send("gateway", key="policy", to="init", msg=site.policy())
    await line(sandbox, "gateway", kind="ready")
    await line(sandbox, "acceptor", kind="ready")
    try:
        yield sandbox
    finally:
        await sandbox.remove()


async def ran(sandbox: Sandbox, *argv: str, key: str, seconds: int = 30) -> dict[str, Any]:
    message = {"do": "exec", "argv": list(argv), "cwd": "/", "timeout": seconds, "tail": 65536}
    await sandbox.send("agent", key=key, to="init", msg=message)
    async with asyncio.timeout(seconds + 10):
        async for found in sandbox.follow("agent"):
            if found.kind == "exit" and (found.model_extra or {}).get("key") == key:
                return found.model_dump()
    raise AssertionError(f"the container ended before {key}")


async def record(sandbox: Sandbox) -> list[dict[str, Any]]:
    """All that the gateway has written so far."""
    await sandbox.send("gateway", key="end", to="init", msg={"do": "note"})
    lines: list[dict[str, Any]] = []
    async for found in sandbox.follow("gateway"):
        lines.append(found.model_dump())
        if lines[-1].get("key") == "end":
            return lines
    raise AssertionError("the gateway ended")


def told(site: Site) -> str:
    calls = {name: NUMBERS[name] for name in NUMBERS}
    addresses = {"host": site.http_host, "http": site.http.port, "dns": site.dns.port}
    more = {"abstract": site.abstract, "sha256": site.secret.sha256, "words": probes.WORDS}
    return json.dumps({**addresses, **more, "calls": calls, "pids": 512})


async def test_an_attacker_finds_no_way_out(site: Site) -> None:
    async with opened(site) as sandbox:
        argv = ("python3", "-c", PROGRAM, told(site))
        ended = await ran(sandbox, *argv, key="probe", seconds=PROBE_SECONDS)
        said = ended["tail"].strip().rpartition("\n")[2]
        found = json.loads(said)
        lines = await record(sandbox)
        assert await sandbox.exit_status("agent") is None
    assert set(found) == {probe.id for probe in probes.CASES}
    assert {p.id: found[p.id] for p in probes.CASES if not p.holds(found[p.id])} == {}
    assert (site.http.dialled, site.dns.asked) == ([], [])
    decisions = [entry for entry in lines if entry["kind"] == "decision"]
    denied = {entry["host"]: entry["reason"] for entry in decisions if entry["verdict"] == "deny"}
    assert {p.id: p.host for p in probes.CASES if p.host and p.record not in denied.get(p.host, "")} == {}  # fmt: skip
    assert set(denied) == {p.host for p in probes.CASES if p.host}
    assert [entry for entry in decisions if entry["verdict"] == "allow"] == []
    assert site.secret.value not in json.dumps(lines) + ended["tail"]


async def test_the_secret_goes_out_and_never_comes_in(site: Site) -> None:
    """36, 37, 38 from within: the canary gets it, and even its echo is taken out."""
    async with opened(site) as sandbox:
        url = "http://canary.internal/ok"
        ended = await ran(sandbox, "curl", "-s", "-H", "x-api-key: mine", url, key="curl")
        lines = await record(sandbox)
    [hit] = site.http.hits
    assert f"x-api-key: {site.secret.value}".encode() in hit.head
    assert b"mine" not in hit.head
    assert ended["tail"] == "*" * len(site.secret.value)
    [allowed] = [entry for entry in lines if entry.get("verdict") == "allow"]
    assert (allowed["rule"], allowed["path"]) == ("connection:canary", "/ok")
    assert site.secret.value not in json.dumps(lines)


BOMB = """
import os, signal, sys
children = 0
while True:
    try:
        pid = os.fork()
    except BlockingIOError:
        break
    if not pid:
        signal.pause()
    children += 1
print(children)
sys.stdout.flush()
os.killpg(0, signal.SIGKILL)
"""


async def test_what_a_run_can_use_up_is_its_own(site: Site) -> None:
    async with opened(site, memory_mib=256) as sandbox, opened(site) as other:
        bombed = await ran(sandbox, "python3", "-c", BOMB, key="60")
        assert 0 < int(bombed["tail"]) < 512
        flood = await ran(sandbox, "sh", "-c", "yes | head -c 10M", key="61c")
        assert len(flood["tail"]) <= 65536
        long = await ran(sandbox, "sh", "-c", "head -c 10M /dev/zero | tr '\\0' x", key="62")
        assert len(long["tail"]) <= 65536
        hungry = await ran(sandbox, "python3", "-c", "x = bytearray(1 << 30)", key="60b")
        assert hungry["status"] != 0
        assert (await ran(other, "echo", "hi", key="other"))["tail"] == "hi\n"
        written = sum([len(found.model_dump_json()) async for found in _so_far(sandbox)])
        assert written < 40 << 20


FULL = """
import os, signal, sys
made = []
while True:
    try:
        pid = os.fork()
    except BlockingIOError:
        break
    if not pid:
        os.setsid(); signal.alarm(3); signal.pause()
    made.append(pid)
for pid in made[: int(sys.argv[1])]:
    os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("free", [0, 1, 2])
async def test_a_container_without_room_for_a_process_still_says_so(site: Site, free: int) -> None:
    """60c: what is left in the background may hold every process that there can be."""
    async with opened(site) as sandbox:
        await ran(sandbox, "python3", "-c", FULL, str(free), key="full")
        for number in range(3):
            argv = {"do": "exec", "argv": ["true"], "cwd": "/", "timeout": 5, "apart": True}
            await sandbox.send("agent", key=f"next:{number}", to="init", msg=argv)
        assert (await line(sandbox, "agent", kind="exit", key="next:2")).n > 1


async def _so_far(sandbox: Sandbox) -> AsyncIterator[Any]:
    """The agent's transcript until now; its container may have been ended by its own limit."""
    with contextlib.suppress(SandboxLostError):
        await sandbox.send("agent", key="last", to="init", msg={"do": "note"})
    async for found in sandbox.follow("agent"):
        yield found
        if (found.model_extra or {}).get("key") == "last":
            return


NEIGHBOUR = """
import json, os, socket, sys
port, name, marker = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def reach(family, address):
    try:
        with socket.socket(family) as sock:
            sock.settimeout(3)
            sock.connect(address)
    except OSError as exc:
        return type(exc).__name__
    return "reached"
seen = [p for p in os.listdir("/proc") if p.isdigit() and marker in open(f"/proc/{p}/cmdline").read() and int(p) != os.getpid()]
files = [os.path.join(f, n) for r in ("/workspace", "/tmp", "/run", "/home", "/dev/shm") for f, _, ns in os.walk(r) for n in ns if marker in n]
print(json.dumps([reach(2, ("127.0.0.1", port)), reach(1, chr(0) + name), seen, files]))
"""
HELD = """
import os, signal, socket, sys
port, name, marker = int(sys.argv[1]), sys.argv[2], sys.argv[3]
for place in ("/workspace", "/tmp", "/home/agent", "/dev/shm"):
    open(f"{place}/{marker}", "w").close()
tcp, unix = socket.create_server(("127.0.0.1", port)), socket.socket(socket.AF_UNIX)
unix.bind(chr(0) + name)
unix.listen()
print("held", flush=True)
signal.pause()
"""


async def test_neighbours_see_nothing_of_each_other(site: Site) -> None:
    async with opened(site) as mine, opened(site) as theirs, asyncio.TaskGroup() as group:
        words = ("18080", "neighbour", "marker-of-a-neighbour")
        held = {"do": "exec", "argv": ["python3", "-c", HELD, *words], "cwd": "/", "timeout": 60}
        await theirs.send("agent", key="held", to="init", msg=held)
        await line(theirs, "agent", kind="output", key="held")
        ended = await ran(mine, "python3", "-c", NEIGHBOUR, *words, key="look")
        assert json.loads(ended["tail"]) == ["ConnectionRefusedError", "ConnectionRefusedError", [], []]  # fmt: skip
        group.create_task(theirs.remove())


HOSTILE = """
git clone --quiet --shared /mirror /workspace/web; cd /workspace/web
git config user.name dana; git config user.email dana@acme.test
python3 -c 'import json,os,sys
for name, text in json.loads(sys.argv[1]).items():
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True); open(name, "w").write(text)' "$1"
mkfifo README.md
git add -A -- .envrc .vscode conftest.py package.json setup.py .gitattributes; git commit --quiet -m 'Say hello'
mkdir -p hooks; printf '#!/bin/sh\\ntouch %s\\n' "$2" | tee hooks/pre-push hooks/post-commit > hooks/pre-commit; chmod +x hooks/*
printf '%s' "$3" >> .git/config
git push http://git.internal/acme/web.git HEAD:refs/heads/errand/x 2>&1
git push --no-verify http://git.internal/acme/web.git HEAD:refs/heads/errand/x 2>&1
mv /workspace/web /workspace/gone; ln -s / /workspace/web; ls -d /workspace/web
"""


async def test_the_host_runs_nothing_of_a_workspace(site: Site, tmp_path: Path) -> None:
    """46 to 50, 63: hostile files and configuration; on the host they would leave a file."""
    place = tmp_path / "ran-on-the-host"
    [taken] = pushes.TAKEN
    files = {name: text.replace("%(place)s", str(place)) for name, text in taken.files.items()}
    config = pushes.EVIL_CONFIG % {"place": place}
    async with opened(site) as sandbox:
        words = (json.dumps(files), str(place), config)
        ended = await ran(sandbox, "sh", "-c", HOSTILE, "sh", *words, key="push")
        assert ended["tail"].endswith("/workspace/web\n"), ended
        assert (await line(sandbox, "gateway", kind="push")).model_dump()["verdict"] == "accept"
        pieces = [p async for p in sandbox.bundle(base=site.rig.base, branch="errand/x")]
    bundle = tmp_path / "pushed.bundle"
    bundle.write_bytes(b"".join(pieces))
    git = await Git.init_bare(tmp_path / "clean.git")
    await git.fetch(site.rig.mirror.as_uri(), header=None, refspecs=["refs/heads/*:refs/heads/*"])
    await git.fetch_bundle(
        bundle, ref="refs/heads/errand/x", into="refs/quarantine/1", max_bytes=1_000_000
    )
    assert await git.numstat("main", "refs/quarantine/1")
    assert not place.exists()


async def test_without_a_gateway_nothing_leaves(site: Site) -> None:
    async with opened(site) as sandbox:
        await sandbox._engine.running(lambda api: api.kill(sandbox._names["gateway"]))
        await whole(sandbox, "gateway")
        ended = await ran(sandbox, "curl", "-s", "-m", "5", "http://canary.internal/ok", key="curl")
        assert ended["status"] != 0
    assert site.http.dialled == []


async def test_hosts_of_docker_are_out_of_reach_of_every_container(site: Site) -> None:
    """57: nothing of the host is in any of the three."""
    async with opened(site) as sandbox:
        for role in ROLES:
            found = await sandbox._inspect(role)
            host = found["HostConfig"]
            assert not host["Privileged"]
            assert not host["Devices"]
            assert host["CapDrop"] == ["ALL"]
            assert host["ReadonlyRootfs"]
            assert [m["Source"] for m in found["Mounts"] if m["Type"] == "bind" and m["RW"]] == []
            assert "docker.sock" not in json.dumps(found["Mounts"])
            assert site.secret.value not in json.dumps(found)
