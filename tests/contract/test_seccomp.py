"""What the kernel answers in the agent's container, asked for past every library."""

import json
import platform
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runner.docker.seccomp import profile
from runner.sandbox import Sandbox
from tests.support.docker_host import (
    IMAGE_SECONDS,
    default_image,
    docker_backend,
    make_mirror,
)
from tests.support.sandboxes import DockerRig, line

pytestmark = [pytest.mark.docker, pytest.mark.timeout(IMAGE_SECONDS)]

EPERM, ENOSYS = 1, 38
X86_64 = {
    "ptrace": 101, "personality": 135, "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166,
    "swapon": 167, "reboot": 169, "init_module": 175, "modify_ldt": 154, "add_key": 248, "keyctl": 250,
    "request_key": 249, "unshare": 272, "kexec_load": 246, "perf_event_open": 298, "fanotify_init": 300,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
    "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "bpf": 321, "userfaultfd": 323,
    "execveat": 322, "clone": 56,
}  # fmt: skip
AARCH64 = {
    "ptrace": 117, "personality": 92, "pivot_root": 41, "chroot": 51, "mount": 40, "umount2": 39,
    "swapon": 224, "reboot": 142, "init_module": 105, "add_key": 217, "keyctl": 219,
    "request_key": 218, "unshare": 97, "kexec_load": 104, "perf_event_open": 241, "fanotify_init": 262,
    "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270,
    "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "bpf": 280, "userfaultfd": 282,
    "execveat": 281, "clone": 220,
}  # fmt: skip
EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "clone3": 435, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442,
}  # fmt: skip
NUMBERS = {**(X86_64 if platform.machine() == "x86_64" else AARCH64), **EVERYWHERE}
WITH_ARGUMENTS = {"ptrace", "personality", "execveat", "clone", "clone3"}
CALLS = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    value = libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return 0 if value != -1 else ctypes.get_errno()
print(json.dumps([call(*c) for c in json.loads(sys.argv[1])]))
"""
SOCKETS = """
import json, socket, sys
def opens(arguments):
    try:
        socket.socket(*arguments).close()
    except OSError as exc:
        return exc.errno
    return 0
print(json.dumps([opens(a) for a in json.loads(sys.argv[1])]))
"""


@pytest.fixture
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sandbox]:
    image = default_image()
    mirror, base = make_mirror(tmp_path)
    async with docker_backend(request) as (backend, installation):
        rig = DockerRig(
            backend=backend, installation=installation, image=image, mirror=mirror, base=base
        )
        made = backend.open(rig.spec())
        await made.ensure()
        yield made


async def answers(sandbox: Sandbox, program: str, questions: object) -> list[int]:
    argv = ["python3", "-c", program, json.dumps(questions)]
    message = {"do": "exec", "argv": argv, "cwd": "/", "timeout": 20, "tail": 65536}
    await sandbox.send("agent", key="ask", to="init", msg=message)
    ended = (await line(sandbox, "agent", kind="exit", key="ask")).model_dump()
    assert ended["status"] == 0, ended
    found: list[int] = json.loads(ended["tail"])
    return found


async def test_ways_around_the_container_are_refused(sandbox: Sandbox) -> None:
    names = [name for name in NUMBERS if name not in WITH_ARGUMENTS]
    found = await answers(sandbox, CALLS, [[NUMBERS[name], -1, 0, 0, 0] for name in names])
    assert {n: e for n, e in zip(names, found, strict=True) if e not in {EPERM, ENOSYS}} == {}


async def test_what_depends_on_arguments_is_refused_with_the_wrong_ones(sandbox: Sandbox) -> None:
    namespaces = [
        0x00020000,
        0x02000000,
        0x04000000,
        0x08000000,
        0x10000000,
        0x20000000,
        0x40000000,
    ]
    calls = [[NUMBERS["clone"], flag, 0, 0, 0, 0] for flag in namespaces]
    calls += [[NUMBERS["personality"], kind] for kind in (0x0008, 0x0040000, 0x0400000)]
    calls += [[NUMBERS["execveat"], 3, 0, 0, 0, 0x1000], [NUMBERS["clone3"], 0, 0]]
    found = await answers(sandbox, CALLS, calls)
    assert found == [EPERM] * (len(calls) - 1) + [ENOSYS]


async def test_only_sockets_that_programs_need_can_be_opened(sandbox: Sandbox) -> None:
    open_ones = [(1, 1, 0), (1, 2, 0), (1, 5, 0), (2, 1, 0), (2, 1, 6), (2, 2, 17), (10, 1, 0)]
    open_ones += [(10, 2, 0), (16, 3, 0)]
    raw = [(2, 3, 1), (10, 3, 58), (2, 2, 1), (2, 1, 132), (2, 1, 262), (2, 5, 0), (2, 2, 136)]
    netlink = [(16, 3, protocol) for protocol in (2, 4, 9, 12, 15, 16, 21)]
    others = [(f, k, 0) for f in range(3, 46) if f not in {10, 16} for k in (1, 2, 3, 5)]
    found = await answers(sandbox, SOCKETS, [*open_ones, *raw, *netlink, *others])
    assert found[: len(open_ones)] == [0] * len(open_ones)
    assert set(found[len(open_ones) :]) == {EPERM}


async def test_a_program_of_another_abi_is_ended(sandbox: Sandbox) -> None:
    if platform.machine() != "x86_64":
        return
    program = f"import ctypes; ctypes.CDLL(None).syscall({0x40000000 | 39})"
    message = {"do": "exec", "argv": ["python3", "-c", program], "cwd": "/", "timeout": 20}
    await sandbox.send("agent", key="x32", to="init", msg=message)
    ended = (await line(sandbox, "agent", kind="exit", key="x32")).model_dump()
    assert ended["status"] == 128 + 31, "SIGSYS"


async def test_what_programs_need_works(sandbox: Sandbox) -> None:
    script = """
import asyncio, ctypes, mmap, multiprocessing, os, signal, socket, sqlite3, subprocess, threading
threading.Thread(target=print).start()
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
assert subprocess.run(["true"], check=True).returncode == 0
assert multiprocessing.get_context("fork").Pool(2).map(abs, [-1, -2]) == [1, 2]
os.mkfifo("/workspace/fifo"); os.close(os.memfd_create("m")); os.close(os.eventfd(0))
asyncio.run(asyncio.create_subprocess_exec("true")); sqlite3.connect("/workspace/x.db").execute("create table t (a)")
pid = os.fork()
if not pid:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0); os.kill(os.getpid(), signal.SIGSTOP); os._exit(0)
_, status = os.waitpid(pid, 0); assert os.WIFSTOPPED(status); os.kill(pid, signal.SIGKILL)
"""
    message = {"do": "exec", "argv": ["python3", "-c", script], "cwd": "/", "timeout": 20}
    await sandbox.send("agent", key="works", to="init", msg=message)
    ended = (await line(sandbox, "agent", kind="exit", key="works")).model_dump()
    assert ended["status"] == 0, ended


def test_the_profile_allows_nothing_by_default_and_has_no_other_abi() -> None:
    found = json.loads(profile())
    assert found["defaultAction"] == "SCMP_ACT_ERRNO"
    assert [entry["subArchitectures"] for entry in found["archMap"]] == [[], []]
    unconditional = {n for rule in found["syscalls"] if "args" not in rule for n in rule["names"]}
    assert not unconditional & {"socket", "clone", "execveat", "personality", "socketcall"}
    assert not [name for name in unconditional if re.match("io_uring|process_vm|mount|key", name)]
