"""Policies and repository settings that would open more than they say: refused when they are read."""

from dataclasses import dataclass
from typing import Final

from tests.adversarial.case import Case

REPO: Final = "version: 1\nrepos:\n  acme/web:\n    forge: local\n    egress: {hosts: [%s]}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCase(Case):
    texts: tuple[str, ...]
    record: str = "the file is refused, and the error names the line"


def hosts(*names: str) -> tuple[str, ...]:
    return tuple(REPO % f"{{host: {name}}}" for name in names)


POLICIES: Final = (
    LoadCase(
        id="34",
        tried="hosts with a line end, space, quote, tab, NUL, `*` inside, a URL, a port, an address",
        must="refused",
        texts=hosts(
            r'"a.com\nb.com"', '"a.com b.com"', r'"a.com\""', r'"a.com\t"', r'"a.com\0"', '"*"', '"*.*"', '"a.*.com"', '"*com"', '"https://a.com"', '"a.com:443"',
            '"a.com/"', '"127.0.0.1"', '"[::1]"', '"2130706433"', '"0x7f.1"', '"A.com"', '"a.com."', '"*.com"', '"localhost"', r'"\u0430.com"', '"-a.com"',
        ),
    ),
    LoadCase(
        id="13b",
        tried="wildcards over names that everybody can have one below",
        must="refused",
        texts=hosts('"*.s3.amazonaws.com"', '"*.github.io"', '"*.amazonaws.com"', '"*.co.uk"', '"*.githubusercontent.com"', '"*.vercel.app"', '"*.blob.core.windows.net"', '"*.r2.dev"'),
    ),
    LoadCase(
        id="x17",
        tried="names that are the gateway's own; a splice held to paths; port 53; metadata addresses",
        must="refused",
        texts=(
            *hosts('"git.internal"', '"x.internal"', '"anthropic.llm.internal"'),
            REPO % "{host: a.com, mode: splice, paths: [/x]}", REPO % "{host: a.com, ports: [53]}", REPO % "{host: a.com, addresses: [169.254.169.254]}",
            REPO % "{host: a.com, addresses: [127.0.0.1/8]}", REPO % "{host: a.com, methods: [CONNECT]}", REPO % "{host: a.com, paths: ['/a/../b']}",
        ),
    ),
    LoadCase(
        id="33a",
        tried="an empty file, another version, a key twice, aliases, tags, a key that does not exist",
        must="refused; the packaged default refuses everything",
        texts=("", "{}", "version: 2\n", "version: 1\nversion: 1\n", "version: 1\nrules: &a []\npeople: *a\n", "version: 1\nrules: !!python/object:os.system []\n", "version: 1\negress: all\n", "version: 1\nrepos: {acme/web: {forge: local, egress: null}}\n" * 2),
    ),
)  # fmt: skip

SETTINGS: Final = (
    LoadCase(
        id="57a",
        tried="a repository's `.errand.yml` that asks for Docker's socket, a device, privileges, a namespace of the host, mounts, variables, hosts",
        must="refused: there are no such keys",
        record="the run ends, and the error names the key",
        texts=tuple(
            f"{line}\n" for line in (
                "docker: /var/run/docker.sock", "privileged: true", "devices: [/dev/kvm]", "pid: host", "ipc: host", "network: host", "volumes: ['/:/host']", "env: {DOCKER_HOST: 'tcp://x'}",
                "cap_add: [SYS_ADMIN]", "security_opt: [seccomp=unconfined]", "egress: {hosts: [{host: a.com}]}", "connections: [anthropic]", "commands: {broker: [gh]}", "runtime: runc",
            )
        ),
    ),
    LoadCase(
        id="58",
        tried="a Dockerfile, a compose file or a dev container to be built; an image by its address",
        must="refused: images are the installation's, by name",
        record="the run ends, and the error names the key",
        texts=("build: .\n", "dockerfile: Dockerfile\n", "compose: compose.yml\n", "devcontainer: true\n", "image: evil.example/x:latest\n", "image: ../x\n"),
    ),
)  # fmt: skip
