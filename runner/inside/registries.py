"""Which hosts this image's package managers ask: printed as JSON when the image is built.

    {"python": ["host", ...], "node": [...], "debian": [{"host": "host", "scheme": "http"}, ...]}

Read from the package managers themselves, so that a mirror needs no other word. An index may lead to files on other
hosts: it is asked for one package that every index has, and only if it answers. A mirror in a closed network has addresses
that no host of a run may have unless its rule names them: those it has now are named here.
"""

import ast
import json
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urljoin, urlsplit

from policies.addresses import is_nameable

_SAY_SECONDS = 60
_ANSWER_SECONDS = 20
_MOST_BYTES = 32 * 1024 * 1024
_PORTS = {"http": 80, "https": 443}
_SETTING = re.compile(r"[^=\s]+\.(?P<option>(?:extra-)?index-url)=(?P<value>'.*'|\".*\")")
_LINK = re.compile(r'(?:href="|"url"\s*:\s*")([^"#]+)')
_TARBALL = re.compile(r'"tarball"\s*:\s*"([^"]+)"')
_DEFAULT_INDEX = "from pip._internal.cli.cmdoptions import index_url; print(index_url().default)"


def main() -> None:
    print(json.dumps({"python": _python(), "node": _node(), "debian": _debian()}))  # noqa: T201 - its purpose


def addresses_of(host: str) -> list[str]:
    """None, if it does not resolve."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(info[4][0]) for info in found})


def entries(
    urls: Iterable[str], *, resolve: Callable[[str], Iterable[str]] = addresses_of
) -> list[object]:
    """Each place once: a host, or more where scheme, port or addresses are not those of the web."""
    found: dict[str, object] = {}
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            continue
        port = parts.port or _PORTS[parts.scheme]
        key = f"{parts.hostname} {parts.scheme} {port}"
        if key in found:
            continue  # a page of an index has hundreds of links to one place
        entry: dict[str, object] = {"host": parts.hostname}
        if parts.scheme != "https":
            entry["scheme"] = parts.scheme
        if port != _PORTS[parts.scheme]:
            entry["port"] = port
        inside = [address for address in resolve(parts.hostname) if is_nameable(address)]
        if inside:
            entry["addresses"] = inside
        found[key] = entry if len(entry) > 1 else parts.hostname
    return [found[key] for key in sorted(found)]


def indexes(listing: str, *, default: str) -> list[str]:
    """The indexes in `pip config list`."""
    found: dict[str, list[str]] = {}
    for line in listing.splitlines():
        match = _SETTING.fullmatch(line.strip())
        if match:
            found[match["option"]] = str(ast.literal_eval(match["value"])).split()
    return [*(found.get("index-url") or [default]), *found.get("extra-index-url", [])]


def linked(page: str, *, url: str) -> list[str]:
    """Where a page of an index leads."""
    return [urljoin(url, link) for link in _LINK.findall(page)]


def _python() -> list[object]:
    if shutil.which("pip") is None:
        return []
    default = _said(["python3", "-c", _DEFAULT_INDEX]).strip()
    urls = indexes(_said(["pip", "config", "list"]), default=default)
    pages = [f"{url.rstrip('/')}/pip/" for url in urls]
    return entries([*urls, *(link for page in pages for link in linked(_read(page), url=page))])


def _node() -> list[object]:
    if shutil.which("npm") is None:
        return []
    registry = _said(["npm", "config", "get", "registry"]).strip()
    package = _read(f"{registry.rstrip('/')}/npm/latest")
    return entries([registry, *_TARBALL.findall(package)])


def _debian() -> list[object]:
    """Apt knows what it would ask, whether or not it has asked."""
    if shutil.which("apt-get") is None:
        return []
    listing = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)"]
    return entries(_said([*listing, "Created-By: Packages"]).split())


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the image's own programs, fixed arguments
            list(command), capture_output=True, check=False, text=True, timeout=_SAY_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _read(url: str) -> str:
    """Nothing, if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - http and https: `indexes`, npm
            return bytes(answer.read(_MOST_BYTES)).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
