"""What the first process of the agent's container takes from itself, and so from everything it starts.

Two things that Docker's flags can't: the process becomes untouchable for others of its uid, who could else write
into the transcript through /proc/1/fd/1; and a filter on top of Docker's own takes the system calls that reach
past a network namespace without interfaces (vsock, kernel crypto sockets) or past a filter (io_uring).
"""

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _MODE_FILTER = 4, 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _THIRD = 0, 4, 16, 32
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_X32 = 0x40000000
_IO_URING = (425, 426, 427)
_UNIX, _INET, _INET6, _NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0
_INSTRUCTION = struct.Struct("HBBI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    architecture: int
    socket: int
    """Number of socket(2)."""


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(architecture=0xC000003E, socket=41),
    "aarch64": Machine(architecture=0xC00000B7, socket=198),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def bpf(machine: Machine) -> bytes:
    """The filter. Jumps count the instructions that are left out."""
    refuse, no_family = _ERROR | errno.ENOSYS, _ERROR | errno.EAFNOSUPPORT
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.architecture),
        (_RETURN, 0, 0, refuse),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 3, 0, _X32),
        (_EQUAL, 2, 0, _IO_URING[0]),
        (_EQUAL, 1, 0, _IO_URING[1]),
        (_EQUAL, 0, 1, _IO_URING[2]),
        (_RETURN, 0, 0, refuse),
        (_EQUAL, 1, 0, machine.socket),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST),
        (_EQUAL, 5, 0, _UNIX),
        (_EQUAL, 4, 0, _INET),
        (_EQUAL, 3, 0, _INET6),
        (_EQUAL, 0, 3, _NETLINK),
        (_LOAD, 0, 0, _THIRD),
        (_EQUAL, 0, 1, _NETLINK_ROUTE),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, no_family),
    ]
    return b"".join(_INSTRUCTION.pack(*step) for step in steps)


def shut_off() -> None:
    """Can't be undone. Raises OSError where the kernel refuses, KeyError on a machine we have no filter for."""
    program = bpf(MACHINES[os.uname().machine])
    libc = ctypes.CDLL(None, use_errno=True)
    filtered = _Program(len(program) // _INSTRUCTION.size, program)
    calls = (
        (_PR_SET_DUMPABLE, 0, None),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filtered)),
    )
    for call, value, pointer in calls:
        if libc.prctl(call, ctypes.c_ulong(value), pointer, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {call} was refused")
