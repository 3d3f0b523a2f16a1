import errno
import struct

import pytest

from runner.inside.shutoff import MACHINES, Machine, bpf

X86, ARM = MACHINES["x86_64"], MACHINES["aarch64"]
ALLOW = 0x7FFF0000
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK = 1, 2, 10, 16, 17, 38, 40


def judge(machine: Machine, number: int, *arguments: int, architecture: int | None = None) -> int:
    """Run the filter as the kernel does; 0 is allowed, else the error number."""
    where = machine.architecture if architecture is None else architecture
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, where, 0, *padded)
    program = list(struct.iter_unpack("HBBI", bpf(machine)))
    at, accumulator = 0, 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == 0x06:
            return 0 if value == ALLOW else int(value) & 0xFFFF
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x15:
            at += yes if accumulator == value else no
        else:
            assert code == 0x35
            at += yes if accumulator >= value else no


@pytest.mark.parametrize("machine", [X86, ARM])
@pytest.mark.parametrize("family", [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK])
def test_the_families_that_programs_need_stay(machine: Machine, family: int) -> None:
    assert judge(machine, machine.socket, family) == 0


@pytest.mark.parametrize("machine", [X86, ARM])
@pytest.mark.parametrize("family", [0, AF_PACKET, AF_ALG, AF_VSOCK, 99])
def test_every_other_family_is_refused(machine: Machine, family: int) -> None:
    assert judge(machine, machine.socket, family) == errno.EAFNOSUPPORT


def test_of_netlink_only_routes_stay() -> None:
    assert judge(X86, X86.socket, AF_NETLINK, 3, 12) == errno.EAFNOSUPPORT


@pytest.mark.parametrize("number", [425, 426, 427])
def test_io_uring_is_not_there(number: int) -> None:
    assert judge(X86, number) == errno.ENOSYS


def test_another_abi_is_not_there() -> None:
    assert judge(X86, 0x40000000 + X86.socket, AF_VSOCK) == errno.ENOSYS
    assert judge(X86, 102, architecture=0x40000003) == errno.ENOSYS


@pytest.mark.parametrize("number", [0, 1, 59, 424, 428, 435])
def test_other_calls_are_left_to_docker(number: int) -> None:
    assert judge(X86, number) == 0
