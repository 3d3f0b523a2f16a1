"""What a process can see of its own containment, and what about it is not as promised."""

import ctypes
import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd")
_SOME_KERNELS = "CapAmb"
_PR_GET_NO_NEW_PRIVS = 39
_FILTER = 2
"""Seccomp's mode with a filter."""
_FAMILIES: Mapping[int, str] = {17: "AF_PACKET", 38: "AF_ALG", 40: "AF_VSOCK"}
_IO_URING_SETUP = 425
_IO_URING = "io_uring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: int
    """Those of all five sets."""
    no_new_privs: bool
    seccomp: int
    reachable: tuple[str, ...]
    """Ways into the kernel that the filter should have closed."""
    interfaces: tuple[str, ...]
    root_writable: bool

    def as_fields(self) -> dict[str, object]:
        return {
            "uid": self.uid,
            "gid": self.gid,
            "groups": list(self.groups),
            "capabilities": f"{self.capabilities:016x}",
            "no_new_privs": self.no_new_privs,
            "seccomp": self.seccomp,
            "reachable": list(self.reachable),
            "interfaces": list(self.interfaces),
            "root_writable": self.root_writable,
        }


def status_fields(text: str) -> dict[str, str]:
    """The `Name: value` lines of /proc/self/status."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def capabilities(fields: Mapping[str, str]) -> int:
    """All bits of all sets; the lowest four if a set is not told that every kernel has."""
    found = int(fields.get(_SOME_KERNELS, "0"), 16)
    for name in _CAPABILITIES:
        found |= int(fields.get(name, "f"), 16)
    return found


def interfaces(text: str) -> tuple[str, ...]:
    """Names of /proc/net/dev, whose first two lines are a heading."""
    lines = text.splitlines()[2:]
    return tuple(line.split(":", 1)[0].strip() for line in lines if ":" in line)


def root_writable(mounts: str) -> bool:
    """By /proc/self/mounts, where the last word on a place counts."""
    options = [
        fields[3].split(",") for line in mounts.splitlines() if (fields := line.split())[1] == "/"
    ]
    return not options or "ro" not in options[-1]


def look() -> Containment:
    fields = status_fields(Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    devices = Path("/proc/net/dev").read_text(encoding="ascii", errors="replace")
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    libc = ctypes.CDLL(None, use_errno=True)
    return Containment(
        uid=os.getuid(),
        gid=os.getgid(),
        groups=tuple(sorted(set(os.getgroups()) - {os.getgid()})),
        capabilities=capabilities(fields),
        no_new_privs=libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1,
        seccomp=int(fields.get("Seccomp", "0")),
        reachable=_reachable(libc),
        interfaces=interfaces(devices),
        root_writable=root_writable(mounts),
    )


def _reachable(libc: ctypes.CDLL) -> tuple[str, ...]:
    """A filter of the right mode may still be another one than ours: so it is tried."""
    found = [name for family, name in _FAMILIES.items() if _opens(family)]
    if libc.syscall(_IO_URING_SETUP, 1, None) != -1 or ctypes.get_errno() == errno.EFAULT:
        found.append(_IO_URING)
    return tuple(found)


def _opens(family: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        try:
            socket.socket(family, kind).close()
        except OSError:
            continue
        return True
    return False


def breaches(found: Containment, *, own_kernel: bool = False) -> tuple[str, ...]:
    """Sentences about what must not be; empty if the agent may start.

    Args:
        found: what `look` saw.
        own_kernel: the runtime brings a kernel of its own: no filter stands before it, its io_uring is not the host's.
    """
    reachable = [name for name in found.reachable if not own_kernel or name != _IO_URING]
    foreign = [name for name in found.interfaces if name != "lo"]
    checks = (
        (found.uid == 0 or found.gid == 0, "the process runs as root"),
        (bool(found.groups), f"the process is in more groups ({_list(found.groups)})"),
        (found.capabilities != 0, f"the process has capabilities ({found.capabilities:x})"),
        (not found.no_new_privs, "no-new-privileges is not set"),
        (found.seccomp != _FILTER and not own_kernel, "no filter of system calls is set"),
        (bool(reachable), f"the kernel can be reached by {_list(reachable)}"),
        (bool(foreign), f"there is a network interface ({_list(foreign)})"),
        (found.root_writable, "the root file system can be written"),
    )
    return tuple(sentence for broken, sentence in checks if broken)


def _list(things: "tuple[object, ...] | list[str]") -> str:
    return ", ".join(map(str, things))
