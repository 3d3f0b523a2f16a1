"""What a process can see of its own containment, and what about it is not as promised."""

import ctypes
import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_FILTER = 2
"""Seccomp's mode with a filter."""
_FAMILIES: Mapping[int, str] = {17: "AF_PACKET", 38: "AF_ALG", 40: "AF_VSOCK"}
_IO_URING_SETUP = 425


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
    """All bits of all sets; all of them if a set is not told."""
    found = 0
    for name in _CAPABILITIES:
        found |= int(fields.get(name, "f"), 16)
    return found


def interfaces(text: str) -> tuple[str, ...]:
    """Names of /proc/net/dev, whose first two lines are a heading."""
    lines = text.splitlines()[2:]
    return tuple(line.split(":", 1)[0].strip() for line in lines if ":" in line)


def look() -> Containment:
    fields = status_fields(Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    devices = Path("/proc/net/dev").read_text(encoding="ascii", errors="replace")
    read_only = bool(os.statvfs("/").f_flag & os.ST_RDONLY)
    return Containment(
        uid=os.getuid(),
        gid=os.getgid(),
        groups=tuple(sorted(set(os.getgroups()) - {os.getgid()})),
        capabilities=capabilities(fields),
        no_new_privs=fields.get("NoNewPrivs") == "1",
        seccomp=int(fields.get("Seccomp", "0")),
        reachable=_reachable(),
        interfaces=interfaces(devices),
        root_writable=not read_only,
    )


def _reachable() -> tuple[str, ...]:
    """A filter of the right mode may still be another one than ours: so it is tried."""
    found = [name for family, name in _FAMILIES.items() if _opens(family)]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_IO_URING_SETUP, 1, None) != -1 or ctypes.get_errno() == errno.EFAULT:
        found.append("io_uring")
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
        own_kernel: the runtime brings a kernel of its own, which needs no filter.
    """
    foreign = [name for name in found.interfaces if name != "lo"]
    checks = (
        (found.uid == 0 or found.gid == 0, "the process runs as root"),
        (bool(found.groups), f"the process is in more groups ({_list(found.groups)})"),
        (found.capabilities != 0, f"the process has capabilities ({found.capabilities:x})"),
        (not found.no_new_privs, "no-new-privileges is not set"),
        (found.seccomp != _FILTER and not own_kernel, "no filter of system calls is set"),
        (bool(found.reachable), f"the kernel can be reached by {_list(found.reachable)}"),
        (bool(foreign), f"there is a network interface ({_list(foreign)})"),
        (found.root_writable, "the root file system can be written"),
    )
    return tuple(sentence for broken, sentence in checks if broken)


def _list(things: "tuple[object, ...] | list[str]") -> str:
    return ", ".join(map(str, things))
