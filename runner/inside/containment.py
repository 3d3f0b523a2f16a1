"""What a process can see of its own containment, and what about it is not as promised."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    uid: int
    gid: int
    cap_eff: int
    no_new_privs: bool
    seccomp: int
    interfaces: tuple[str, ...]
    root_writable: bool

    def as_fields(self) -> dict[str, object]:
        return {
            "uid": self.uid,
            "gid": self.gid,
            "cap_eff": f"{self.cap_eff:016x}",
            "no_new_privs": self.no_new_privs,
            "seccomp": self.seccomp,
            "interfaces": list(self.interfaces),
            "root_writable": self.root_writable,
        }


def status_fields(text: str) -> dict[str, str]:
    """The `Name: value` lines of /proc/self/status."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


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
        cap_eff=int(fields.get("CapEff", "f"), 16),
        no_new_privs=fields.get("NoNewPrivs") == "1",
        seccomp=int(fields.get("Seccomp", "0")),
        interfaces=interfaces(devices),
        root_writable=not read_only and os.access("/", os.W_OK),
    )


def breaches(found: Containment) -> tuple[str, ...]:
    """Sentences about what must not be; empty if the agent may start."""
    foreign = [name for name in found.interfaces if name != "lo"]
    checks = (
        (found.uid == 0, "the process runs as root"),
        (found.cap_eff != 0, f"the process has capabilities ({found.cap_eff:x})"),
        (not found.no_new_privs, "no-new-privileges is not set"),
        (bool(foreign), f"there is a network interface ({', '.join(foreign)})"),
    )
    return tuple(sentence for broken, sentence in checks if broken)
