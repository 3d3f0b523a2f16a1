"""Ways from a container to the origin: a bridge, our gateway in a real sandbox, Squid, mitmproxy."""

import asyncio
import contextlib
import copy
import datetime as dt
import os
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from runner.docker import spec as specs
from runner.docker.backend import DockerBackend
from runner.docker.containers import make_volume
from runner.docker.sandbox import DockerSandbox
from runner.docker.spec import Wanted
from runner.inside.authority import Authority
from runner.sandbox import Line
from tests.support.docker_host import make_mirror
from tests.support.messages_api import bridge_address
from tests.support.ports import free_port
from tests.support.sandboxes import a_spec, line

ORIGIN: Final = "origin.example.com"
SPLICED: Final = "spliced.example.com"
CLIENT: Final = (Path(__file__).parent / "egress_client.py").read_text()
_MITMPROXY: Final = Path.home() / ".cache/errand-bench/mitmproxy"
_SECONDS: Final = 120
_READY_SECONDS: Final = 30
Ask = Callable[..., Awaitable[float]]
"""From the words that the client takes after the way, to the number that it prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    host: str
    port: int
    authority: Path


@asynccontextmanager
async def origin(root: Path) -> AsyncIterator[Origin]:
    host = bridge_address()
    port = free_port(host)
    world = Authority(seconds=24 * 3600, now=dt.datetime.now(dt.UTC))
    (root / "world.pem").write_text(world.certificate)
    for name in (ORIGIN, SPLICED):
        (root / f"{name}.pem").write_bytes(world.leaf(name))
    argv = (sys.executable, "-m", "tests.bench.egress_origin", host, str(port))
    async with process(*argv, str(root / f"{ORIGIN}.pem")):
        await listening(host, port)
        yield Origin(host=host, port=port, authority=root / "world.pem")


@asynccontextmanager
async def process(*argv: str) -> AsyncIterator[None]:
    nowhere = asyncio.subprocess.DEVNULL
    made = await asyncio.create_subprocess_exec(*argv, stdout=nowhere, stderr=nowhere)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.terminate()
        await made.wait()


async def listening(host: str, port: int) -> None:
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


def bridged(image: str, origin: Origin, *, way: Sequence[str]) -> Ask:
    """From a container on Docker's bridge."""

    async def ask(*words: str) -> float:
        argv = ("docker", "run", "--rm", "--entrypoint", "python3", image, "-I", "-c", CLIENT)
        made = await asyncio.create_subprocess_exec(
            *argv, origin.host, str(origin.port), *way, *words, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(made.communicate(), _SECONDS)
        return float(out)

    return ask


@asynccontextmanager
async def sandboxed(root: Path, image: str, origin: Origin) -> AsyncIterator[Callable[[str], Ask]]:
    """From the agent's container of a sandbox, whose gateway is told where the origin is and whom to trust."""
    mirror, base = await asyncio.to_thread(make_mirror, root)
    spec = a_spec(
        installation=f"bench-{uuid.uuid4().hex[:8]}", image=image, mirror=mirror, task=None, memory_mib=512
    ).model_copy(update={"ports": (origin.port,)})  # fmt: skip
    backend = DockerBackend()
    sandbox = backend.open(spec)
    try:
        await _up(sandbox, origin, image=image, base=base)
        yield lambda host: partial(_asked, sandbox, host, str(origin.port))
    finally:
        await sandbox.remove()
        backend.close()


async def _up(sandbox: DockerSandbox, origin: Origin, *, image: str, base: str) -> None:
    engine, spec = sandbox._engine, sandbox.spec
    for body in specs.volume_bodies(spec, version="bench"):
        await engine.starting(partial(make_volume, body=body))
    gateway = specs.gateway(spec, image=image, version="bench")
    await sandbox._start(await sandbox._make(_knowing(gateway, origin)))
    acceptor = await sandbox._make(specs.acceptor(spec, image=image, version="bench"))
    await sandbox._start(acceptor)
    agent = specs.agent(spec, version="bench", acceptor_id=acceptor.id)
    await sandbox._start(await sandbox._make(agent))
    port = [f"https:{origin.port}"]
    hosts = [{"host": ORIGIN, "private": True, "ports": port}]
    hosts.append({"host": SPLICED, "private": True, "ports": port, "mode": "splice"})
    policy = {"do": "policy", "egress": hosts, "publish": {}, "base": base}
    await sandbox.send("gateway", key="policy", to="init", msg=policy)
    await line(sandbox, "gateway", kind="ready")
    await line(sandbox, "acceptor", kind="ready")


async def _asked(sandbox: DockerSandbox, host: str, port: str, *words: str) -> float:
    # On a shared machine a connection may not come about: once more then, never a third time.
    try:
        return await _asked_once(sandbox, host, port, *words)
    except ChildProcessError:
        return await _asked_once(sandbox, host, port, *words)


async def _asked_once(sandbox: DockerSandbox, host: str, port: str, *words: str) -> float:
    key = uuid.uuid4().hex
    argv = ["python3", "-c", CLIENT, host, port, "", "direct", *words]
    message = {"do": "exec", "argv": argv, "cwd": "/", "timeout": _SECONDS}
    await sandbox.send("agent", key=key, to="init", msg=message)
    async with asyncio.timeout(_SECONDS):
        async for found in sandbox.follow("agent"):
            if found.kind == "exit" and (found.model_extra or {})["key"] == key:
                return await _number(sandbox, found)
    raise ChildProcessError(key)


async def _number(sandbox: DockerSandbox, ended: Line) -> float:
    """What the client printed; if it printed none, the gateway's record says why."""
    said = str((ended.model_extra or {})["tail"])
    try:
        return float(said)
    except ValueError:
        await sandbox.send("gateway", key="end", to="init", msg={"do": "note"})
        async for found in sandbox.follow("gateway"):
            said += f"{found.model_dump()}\n"
            if (found.model_extra or {}).get("key") == "end":
                break
        raise ChildProcessError(said) from None


def _knowing(wanted: Wanted, origin: Origin) -> Wanted:
    body: dict[str, Any] = copy.deepcopy(dict(wanted.body))
    body["HostConfig"]["ExtraHosts"] = [f"{name}:{origin.host}" for name in (ORIGIN, SPLICED)]
    world = {
        "Type": "bind",
        "Source": str(origin.authority),
        "Target": "/world.pem",
        "ReadOnly": True,
    }
    body["HostConfig"]["Mounts"] += [world | {"BindOptions": {"Propagation": "rprivate"}}]
    body["Env"] += ["SSL_CERT_FILE=/world.pem"]
    return replace(wanted, body=body)


SQUID: Final = """\
http_port {host}:{port} ssl-bump cert={ca} generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program /usr/lib/squid/security_file_certgen -s {root}/certificates -M 4MB
acl step1 at_step SslBump1
{bump}
http_access allow all
sslproxy_cert_error allow all
tls_outgoing_options flags=DONT_VERIFY_PEER
cache deny all
access_log none
cache_log {root}/squid.log
pid_filename {root}/squid.pid
coredump_dir {root}
shutdown_lifetime 1 seconds
"""
BUMPS: Final = {
    "inspect": "ssl_bump peek step1\nssl_bump bump all",
    "splice": "ssl_bump splice all",
}


def squid_program() -> str | None:
    """It lies where root's programs do, and only root can hand it its files."""
    return shutil.which("squid", path=f"{os.environ['PATH']}:/usr/sbin")


@asynccontextmanager
async def squid(
    root: Path, origin: Origin, ca: Path, *, program: str, mode: str
) -> AsyncIterator[str]:
    """`HOST:PORT` of Debian's squid-openssl."""
    where, port = root / f"squid-{mode}", free_port(origin.host)
    text = SQUID.format(host=origin.host, port=port, ca=ca, root=where, bump=BUMPS[mode])
    await asyncio.to_thread(where.mkdir)
    await asyncio.to_thread((where / "squid.conf").write_text, text)
    certgen = ("/usr/lib/squid/security_file_certgen", "-c", "-s", str(where / "certificates"))
    made = await asyncio.create_subprocess_exec(
        *certgen, "-M", "4MB", stdout=asyncio.subprocess.DEVNULL
    )
    await made.wait()
    await asyncio.to_thread(_hand_over, where)
    async with process(program, "-N", "-f", str(where / "squid.conf")):
        await listening(origin.host, port)
        yield f"{origin.host}:{port}"


def _hand_over(where: Path) -> None:
    """Squid started as root becomes `proxy`."""
    for entry in (where, *where.rglob("*")):
        shutil.chown(entry, "proxy", "proxy")


@asynccontextmanager
async def mitmproxy(root: Path, origin: Origin, program: Path) -> AsyncIterator[str]:
    port = free_port(origin.host)
    settings = ("ssl_insecure=true", "stream_large_bodies=1m", f"confdir={root / 'mitmproxy'}")
    argv = ["--listen-host", origin.host, "--listen-port", str(port), "--quiet"]
    for setting in settings:
        argv += ["--set", setting]
    async with process(str(program), *argv):
        await listening(origin.host, port)
        yield f"{origin.host}:{port}"


async def mitmdump() -> Path:
    """The program, in an environment of its own that is made once: it wants other versions than ours."""
    place = _MITMPROXY
    program = place / "bin" / "mitmdump"
    if not await asyncio.to_thread(program.exists):
        for argv in (
            (sys.executable, "-m", "venv", str(place)),
            (str(place / "bin" / "pip"), "install", "--quiet", "mitmproxy>=11"),
        ):
            made = await asyncio.create_subprocess_exec(*argv)
            if await made.wait():
                raise ChildProcessError(argv)
    return program
