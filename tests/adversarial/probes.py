"""What the attacker in the sandbox must find: by the names of `inside.PROBES`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.adversarial.case import NOTHING, Case

WORDS: Final = "$(touch /workspace/ran); `id` && {{x}} 'a\" \n*"
CLOSED: Final = ["ENETUNREACH"]
DENIED: Final = ["EPERM"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Case):
    found: object
    """What it must find, or a function that says whether it is right."""
    host: str = ""
    """Of the denial that must be on record."""
    record: str = NOTHING

    def holds(self, found: object) -> bool:
        return bool(self.found(found)) if callable(self.found) else found == self.found


def among(*names: str) -> Callable[[Any], bool]:
    return lambda found: bool(found) and set(found) <= set(names)


UNREACHABLE: Final = among("ENETUNREACH", "EADDRNOTAVAIL", "EHOSTUNREACH")
REFUSED: Final = among("EPERM", "ENOSYS")
LISTED: Final = "is not on the list of hosts"

CASES: Final = (
    Probe(id="1", tried="TCP straight to an address: the canary's, and others", must="ENETUNREACH; the canary hears nothing", found=CLOSED),
    Probe(id="1u", tried="UDP straight to an address: DNS, QUIC", must="ENETUNREACH; the canary hears nothing", found=CLOSED),
    Probe(id="2", tried="`NO_PROXY`, `ALL_PROXY`, a proxy of its own, `--noproxy`", must="fails: there is no proxy to go around", found=lambda found: "0" not in found and found),
    Probe(id="3", tried="link-local, shared, protocol and benchmark ranges, IPv6", must="unreachable", found=UNREACHABLE),
    Probe(id="4", tried="raw and packet sockets, ICMP", must="EPERM", found=DENIED),
    Probe(id="5", tried="AF_ALG, VSOCK, TIPC, RDS, SMC, XDP, KEY, BLUETOOTH, CAN, QIPCRTR and others, netfilter", must="EPERM", found=DENIED),
    Probe(id="6", tried="an abstract socket that a process of the host listens on", must="ECONNREFUSED", found="ECONNREFUSED"),
    Probe(id="7", tried="IPv6, other interfaces", must="only `lo`, unreachable", found=UNREACHABLE),
    Probe(id="9", tried="a namespace, an interface of its own", must="EPERM", found=DENIED),
    Probe(id="10", tried="killing the acceptor, taking its port, killing the first process", must="it is not to be seen; the port is taken; nothing happens", found=lambda found: found[0] == [] and found[1] == "EADDRINUSE"),
    Probe(id="11", tried="sockets of Docker, containerd, systemd, the gateway or any other in the file system", must="there are none", found=[]),
    Probe(id="12", tried="DNS to other servers, over TCP and TLS; a name that is data", must="unreachable; every name has an address in 127/8, and no question leaves", found=lambda found: UNREACHABLE(found[0]) and found[1] == "127"),
    Probe(id="13", tried="data in the labels of a name that is not listed", must="403; no DNS server is asked", found=["403", "403"], host="c2vjcmv0.never.test", record=LISTED),
    Probe(id="19b", tried="other ports of an allowed host", must="ECONNREFUSED", found=["ECONNREFUSED"]),
    Probe(id="36", tried="searching environment, /proc, files, home, git's configuration for the secret", must="not found (its hash is known inside)", found=[0, []]),
    Probe(id="36b", tried="environment, memory and descriptors of the first process", must="EACCES, EPERM", found=among("EACCES", "EPERM")),
    Probe(id="45", tried="writing to the system, the mirror, the certificates; remounting and unmounting", must="EROFS, EACCES; EPERM", found=lambda found: among("EROFS", "EACCES")(found[0]) and found[1] == ["EPERM"]),
    Probe(id="51", tried="mount, fsopen, move_mount, open_tree, pivot_root, chroot", must="EPERM", found=REFUSED),
    Probe(id="52", tried="bpf, perf, userfaultfd, keys, process_vm, kexec, modules, handles, io_uring, setns, fanotify", must="EPERM", found=REFUSED),
    Probe(id="53", tried="core_pattern, sysrq, sysctls, cgroups, kcore", must="EROFS, EACCES; empty", found=lambda found: among("EROFS", "EACCES", "EPERM")(found[0]) and found[1] == 0),
    Probe(id="54", tried="descriptors that a runtime left open; the first process's program", must="there are none; not writable", found=lambda found: found[0] == [] and found[1] in {"EACCES", "EPERM", "EROFS"}),
    Probe(id="55", tried="set-uid programs, becoming another user", must="there are none; EPERM", found=[[], "EPERM", "EPERM"]),
    Probe(id="56", tried="capabilities, privileges to come, groups", must="none, no, only its own", found=[0, 0, 0, 0, 0, 1, 2, 10001, [10001]]),
    Probe(id="59", tried="words of a request with shell, template and quoting characters", must="arrive as they are", found=WORDS),
    Probe(id="61", tried="filling workspace, home, temporary files, shared memory", must="ENOSPC in the run", found=["ENOSPC"]),
    Probe(id="61b", tried="as many files as there can be", must="ENOSPC in the run", found="ENOSPC"),
    Probe(id="71", tried="a policy, AGENTS.md and `.errand.yml` in the workspace that open a host", must="403", found="403", host="opened.test", record=LISTED),
    Probe(id="72", tried="an approval written to standard output, to the first process's input, to consoles", must="403: it is output and nothing more", found="403", host="approved.test", record=LISTED),
    Probe(id="x10", tried="devices that are not the usual ones; making one", must="there are none; EPERM", found=[[], "EPERM"]),
    Probe(id="x11", tried="named and abstract sockets of others in the same network namespace", must="there are none", found=[]),
    Probe(id="x12", tried="system calls of the x32 ABI", must="SIGSYS", found=-31),
    Probe(id="x13", tried="asking for five thousand names", must="SERVFAIL beyond the limit, and nothing else suffers", found=["0", "2"]),
    Probe(id="x14", tried="DNS questions that are none: loops, no end, too many", must="answered or dropped; the next good one is answered", found=2),
    Probe(id="x15", tried="leaving a core dump", must="there is none", found=[False, []]),
    Probe(id="x16", tried="five thousand threads", must="EAGAIN below the limit of processes", found=True),
)  # fmt: skip

MORE: Final = (
    Case(id="37a", tried="the secret by its echo: a server that answers with what it was sent", must="the canary gets it, the answer comes without it", record="an allowed request with its method and path; the secret is in no line"),
    Case(id="60", tried="a fork bomb; a gigabyte in a container of a quarter", must="EAGAIN, killed; a neighbour goes on", record=NOTHING),
    Case(id="60c", tried="holding every process and thread from the background", must="each later command still has an end that is told", record=NOTHING),
    Case(id="62", tried="floods of output, one line without an end", must="cut; the transcript stays below its limit", record=NOTHING),
    Case(id="70a", tried="a neighbour's port, abstract socket, processes, files", must="refused; not to be seen", record=NOTHING),
    Case(id="57b", tried="what `docker inspect` shows of the three containers", must="no socket, device, privilege or writable directory of the host, no secret", record="compared before the start"),
    Case(id="73", tried="the gateway is killed while the agent runs", must="nothing leaves any more", record=NOTHING),
)  # fmt: skip
