"""Builds the images of the catalogue, and finds them."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import docker

from runner.engine import Engine, mapped
from runner.errors import SandboxStartError
from runner.images.base import find_base, find_image
from runner.images.context import DEFAULT, IMAGES, code_hash, context, image_tag

NAME_LABEL: Final = "errand.image"
CODE_LABEL: Final = "errand.code"
BASE_LABEL: Final = "errand.base"
_KEPT_LINES: Final = 20


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
    docker_host: str | None = None,
) -> str:
    """The tag of an image of this code; builds it if it isn't there. Blocking; safe twice.

    Args:
        name: one of `IMAGES`.
        progress: is told a line at a time what happens.
        base: the image to build on; without it one is found or made.
        docker_host: as in DOCKER_HOST; None is the local socket.
    """
    if name not in IMAGES:
        raise SandboxStartError(f"there is no image {name!r}, but {', '.join(IMAGES)}")
    tag = image_tag(name)
    with _client(docker_host) as api:
        if not _is_there(api, tag, base):
            below = base or find_base(api, docker_host=docker_host, progress=progress)
            progress(f"building {tag} on {below}")
            _build(api, name=name, base=below, progress=progress)
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


def _build(api: docker.APIClient, *, name: str, base: str, progress: Callable[[str], None]) -> None:
    steps = api.build(
        fileobj=io.BytesIO(context()),
        custom_context=True,
        tag=image_tag(name),
        target=name,
        buildargs={"BASE_IMAGE": base},
        labels={NAME_LABEL: name, CODE_LABEL: code_hash(), BASE_LABEL: base},
        rm=True,
        forcerm=True,
        decode=True,
    )
    said: list[str] = []
    for step in steps:
        text = str(step.get("error") or step.get("stream") or "").strip()
        if text:
            progress(text)
            said = [*said, text][-_KEPT_LINES:]
        if "error" in step:
            raise SandboxStartError(f"image {name} was not built: {' / '.join(said)}")


def _image(entry: dict[str, Any], tag: str) -> Image:
    labels = entry["Labels"]
    name, code = labels[NAME_LABEL], labels.get(CODE_LABEL, "")
    return Image(name=name, tag=tag, code=code, size=entry["Size"], current=tag == image_tag(name))
