"""Programs that policy denies: in the agent's container a note lies over each of them.

The note comes from our image by way of a small volume, and is bound over each path. Docker has no other way to lay one file
over another without a file of the host's; the daemon itself says where its volume lies, so it may be a daemon elsewhere.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import docker
from docker.errors import NotFound
from docker.types import Mount

from runner.docker.containers import make_volume
from runner.errors import NotEquippedError, SandboxStartError
from runner.inside.denied import NOTE
from runner.once import say_once

_PLACE: Final = "/opt/denied"
_FILE: Final = "denied"
_SEARCH: Final = "from runner.inside.paths import main; main()"


class Masks:
    """Of one Docker host. Remembers what it found of an image."""

    def __init__(self, *, image: str) -> None:
        self._image = image
        self._found: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}

    def mounts(
        self, api: docker.APIClient, image: str, names: Sequence[str]
    ) -> list[dict[str, Any]]:
        """One for each file to be hidden. Blocking.

        Raises:
            NotEquippedError: in this image, one of the names is a program that a run can't do without.
        """
        if not names:
            return []
        paths, source = self._paths(api, image, names), self._source(api)
        return [_mount(source, path) for path in paths]

    def _paths(self, api: docker.APIClient, image: str, names: Sequence[str]) -> tuple[str, ...]:
        digest = str(api.inspect_image(image)["Id"])  # type: ignore[no-untyped-call]
        key = (digest, tuple(sorted(set(names))))
        if key not in self._found:
            self._found[key] = _searched(say_once(api, digest, _SEARCH, arguments=key[1]), image)
        return self._found[key]

    def _source(self, api: docker.APIClient) -> str:
        """Where the daemon keeps the note. Filled from the image by Docker, when a container is made with it."""
        name = f"errand-denied-{_version()}"
        body = {
            "name": name,
            "driver": "local",
            "driver_opts": None,
            "labels": {"errand.role": "denied"},
        }
        try:
            found = api.inspect_volume(name)
        except NotFound:
            make_volume(api, body)
            mount = Mount(target=_PLACE, source=name, type="volume", read_only=True)
            said = say_once(
                api, self._image, f"print(open('{_PLACE}/{_FILE}').read(), end='')", mounts=[mount]
            )
            if said.decode() != NOTE:
                raise SandboxStartError(f"volume {name} is not as it must be: remove it") from None
            found = api.inspect_volume(name)
        return f"{found['Mountpoint']}/{_FILE}"


@functools.cache
def _version() -> str:
    return hashlib.sha256(NOTE.encode()).hexdigest()[:12]


def _searched(said: bytes, image: str) -> tuple[str, ...]:
    try:
        found = json.loads(said)
        paths, needed = tuple(map(str, found["paths"])), list(found["needed"])
    except (ValueError, KeyError, TypeError) as exc:
        raise SandboxStartError(f"image {image} cannot be searched for programs") from exc
    if needed:
        raise NotEquippedError(
            f"In image {image}, what the policy denies is also {', '.join(needed)}, which a run cannot do without: "
            "whoever edits the policy can take it out of `commands.deny`."
        )
    return paths


def _mount(source: str, path: str) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": path,
        "ReadOnly": True,
        # What Docker demands of a source in a place of its own.
        "BindOptions": {"Propagation": "rslave"},
    }
