"""A container that says one thing and is gone. Blocking."""

from collections.abc import Sequence
from typing import Final

import docker
from docker.types import Mount

_INSIDE: Final = "import sys; sys.path.insert(0, '/opt/errand'); "
_MEMORY: Final = 512 * 1024 * 1024


def say_once(
    api: docker.APIClient,
    image: str,
    program: str,
    *,
    arguments: Sequence[str] = (),
    network: bool = False,
    mounts: Sequence[Mount] = (),
) -> bytes:
    """What a program of ours writes to its standard output in a container of that image.

    Docker removes the container when it ends, whether or not this process is still there.

    Args:
        api: of the Docker host.
        image: one of ours.
        program: a few lines of Python that may import `runner.inside`.
        arguments: its `sys.argv[1:]`.
        network: it may reach others.
        mounts: what it has besides its image.
    """
    host = api.create_host_config(
        auto_remove=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="bridge" if network else "none",
        mem_limit=_MEMORY,
        mounts=list(mounts),
    )
    made = api.create_container(
        image,
        entrypoint=["python3", "-I", "-c", _INSIDE + program],
        command=list(arguments),
        environment={"HOME": "/tmp"},  # noqa: S108 - the container's own
        user="10001:10001",
        host_config=host,
    )
    said = api.attach(made["Id"], stdout=True, stderr=False, stream=True, logs=True)
    try:
        api.start(made["Id"])
        return b"".join(said)
    except docker.errors.APIError:
        api.remove_container(made["Id"], force=True)
        raise
    finally:
        said._response.close()  # type: ignore[attr-defined]  # noqa: SLF001 - else the connection behind it stays open
