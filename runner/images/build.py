"""Builds the images of the catalogue, and finds them."""

import contextlib
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Any, Final

import docker

from runner.engine import Engine, mapped
from runner.errors import SandboxStartError
from runner.images.base import find_base, find_image
from runner.images.context import (
    DEFAULT,
    IMAGES,
    PROGRAMS,
    code_hash,
    context,
    current_tags,
    image_tag,
    pins,
    programs_tag,
)
from runner.images.hostconfig import host_files
from runner.images.programs import programs_context
from runner.once import say_once

NAME_LABEL: Final = "errand.image"
CODE_LABEL: Final = "errand.code"
BASE_LABEL: Final = "errand.base"
REGISTRIES_LABEL: Final = "errand.registries"
"""JSON: the hosts that its package managers ask, by profile. See runner/inside/registries.py."""
_ASK: Final = "from runner.inside.registries import main; main()"
_KEPT_LINES: Final = 20
_LINE_WIDTH: Final = 76
_STEP: Final = re.compile(r"Step \d+/\d+ : (?:RUN|COPY|ADD)\b")
"""What takes time; the rest only says something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One of ours on this Docker host."""

    name: str
    tag: str
    code: str
    size: int
    current: bool
    """False for an earlier code's: `remove_old` takes it."""


def ensure_image(
    name: str = DEFAULT,
    *,
    progress: Callable[[str], None],
    base: str | None = None,
    again: bool = False,
    docker_host: str | None = None,
) -> str:
    """The tag of an image of this code; builds it if it isn't there. Blocking; safe twice.

    Args:
        name: one of `IMAGES`.
        progress: is told a line at a time what happens.
        base: the image to build on; without it one is found or made.
        again: build it though it is there: this host's package managers are configured anew.
        docker_host: as in DOCKER_HOST; None is the local socket.
    """
    if name not in IMAGES:
        raise SandboxStartError(f"there is no image {name!r}, but {', '.join(IMAGES)}")
    tag = image_tag(name)
    with _client(docker_host) as api:
        if again or not _is_there(api, tag, base):
            below = base or find_base(api, docker_host=docker_host, progress=progress)
            files = host_files(progress=progress)
            builder = _Builder(api, base=below, host=files, progress=progress)
            if pins(name):
                builder.build_on_programs(name, rebuild=again or base is not None)
            else:
                builder.build_whole(name)
    return tag


def list_images(*, docker_host: str | None = None) -> list[Image]:
    """Those of all codes. Blocking."""
    with _client(docker_host) as api:
        found = api.images(filters={"label": NAME_LABEL})
        return sorted(
            (_image(entry, tag) for entry in found for tag in entry.get("RepoTags") or []),
            key=lambda image: image.tag,
        )


def remove_old(*, docker_host: str | None = None) -> list[str]:
    """Remove images of earlier codes that no container uses; gives their tags. Blocking; safe twice."""
    removed: list[str] = []
    old = [image.tag for image in list_images(docker_host=docker_host) if not image.current]
    with _client(docker_host) as api:
        for tag in old:
            # Without force Docker keeps what a container was made from.
            with contextlib.suppress(docker.errors.APIError):
                api.remove_image(tag)
                removed.append(tag)
    return removed


@contextlib.contextmanager
def _client(docker_host: str | None) -> Iterator[docker.APIClient]:
    engine = Engine(docker_host)
    try:
        with mapped(SandboxStartError):
            yield engine.api()
    finally:
        engine.close()


def _is_there(api: docker.APIClient, tag: str, base: str | None) -> bool:
    found = find_image(api, tag)
    if found is None:
        return False
    return base is None or (found["Labels"] or {}).get(BASE_LABEL) == base


class _Builder:
    def __init__(
        self,
        api: docker.APIClient,
        *,
        base: str,
        host: Mapping[str, bytes],
        progress: Callable[[str], None],
    ) -> None:
        self._api = api
        self._base = base
        self._host = host
        self._progress = progress

    def build_whole(self, name: str, *, more: Mapping[str, str] = MappingProxyType({})) -> None:
        """What it says of its registries can only be asked of the image; the second build finds all but the label."""
        tag = image_tag(name)
        self._build(io.BytesIO(context(self._host)), name=name, tag=tag, target="agent", more=more)
        labels = {REGISTRIES_LABEL: self._registries(tag)}
        self._build(
            io.BytesIO(context(self._host)),
            name=name,
            tag=tag,
            target="agent",
            more=more,
            labels=labels,
        )

    def build_on_programs(self, name: str, *, rebuild: bool) -> None:
        """The image below may be there already: our code changes more often than what it runs."""
        below = programs_tag(name)
        if rebuild or not _is_there(self._api, below, None):
            architecture = str(self._api.version()["Arch"])
            with programs_context(
                name, architecture=architecture, host=self._host, progress=self._progress
            ) as file:
                self._build(file, name=f"{name}-programs", tag=below, target="programs")
        self.build_whole(name, more={"PROGRAMS_IMAGE": below, "PROGRAM": PROGRAMS[name]})

    def _registries(self, tag: str) -> str:
        """As one line of JSON; `{}` if the image can't say."""
        said = say_once(self._api, tag, _ASK, network=True)
        try:
            found = json.loads(said)
        except ValueError:
            found = {}
        for kind, places in found.items():
            names = [str(place["host"] if isinstance(place, dict) else place) for place in places]
            self._progress(f"{kind} packages come from {', '.join(names) or 'nowhere'}")
        return json.dumps(found, separators=(",", ":"))

    def _build(
        self,
        file: IO[bytes],
        *,
        name: str,
        tag: str,
        target: str,
        more: Mapping[str, str] = MappingProxyType({}),
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        if not labels:
            self._progress(f"building {tag} on {self._base}")
        steps = self._api.build(
            fileobj=file,
            custom_context=True,
            tag=tag,
            target=target,
            buildargs={"BASE_IMAGE": self._base, **more},
            labels={NAME_LABEL: name, CODE_LABEL: code_hash(), BASE_LABEL: self._base, **labels},
            rm=True,
            forcerm=True,
            decode=True,
        )
        said: list[str] = []
        for step in steps:
            text = str(step.get("error") or step.get("stream") or "").strip()
            if _STEP.match(text) and not labels:
                self._progress(textwrap.shorten(text, _LINE_WIDTH, placeholder=" …"))
            if text:
                said = [*said, text][-_KEPT_LINES:]
            if "error" in step:
                raise SandboxStartError(f"image {name} was not built: {' / '.join(said)}")


def _image(entry: dict[str, Any], tag: str) -> Image:
    labels = entry["Labels"]
    name, code = labels[NAME_LABEL], labels.get(CODE_LABEL, "")
    return Image(name=name, tag=tag, code=code, size=entry["Size"], current=tag in current_tags())
