"""`errand sandbox`: a command where a task's agent would be, for people who write policy, and for tests."""

import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from bot.cli.output import AsJson, inform, print_json
from bot.settings import Settings, load_settings
from bot.signals import run_until_signalled
from bot.trial import Wanted, empty_mirror, launch_for, message_of, spec_of
from bot.workshop import open_sandboxes
from policies.hosts import open_profiles
from runner import trial
from runner.images.build import ensure_image
from runner.images.context import DEFAULT, IMAGES

app = typer.Typer(
    help="A sandbox like a task's, for one command.", no_args_is_help=True, add_completion=False
)
SECONDS = 3600


@app.callback()
def _sandbox() -> None:
    """A sandbox like a task's, for one command."""


@dataclass(slots=True)
class _Told:
    """What a trial says: written as it comes, or kept for one document at the end."""

    as_json: bool
    streams: dict[str, list[str]] = field(default_factory=lambda: {"stdout": [], "stderr": []})
    decisions: list[Mapping[str, Any]] = field(default_factory=list)
    status: int = 0

    def said(self, stream: str, text: str) -> None:
        if self.as_json:
            self.streams[stream].append(text)
        else:
            to = sys.stderr if stream == "stderr" else sys.stdout
            to.write(text)
            to.flush()

    def decided(self, decision: Mapping[str, Any]) -> None:
        self.decisions.append(decision)
        if not self.as_json and decision.get("verdict") == "deny":
            where = f"{decision.get('host')}:{decision.get('port')}"
            inform(f"errand: denied {where}: {decision.get('reason')}")

    def document(self, seconds: float) -> dict[str, Any]:
        texts = {name: "".join(parts) for name, parts in self.streams.items()}
        return {
            "status": self.status,
            **texts,
            "seconds": round(seconds, 3),
            "decisions": self.decisions,
        }


@app.command("run")
def run(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after --.")],
    repo: Annotated[
        str | None, typer.Option(help="Under the policy's rules for this repository.")
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="Egress profile besides; may be given again.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Host that may be reached besides; again for more.")
    ] = None,
    image: Annotated[str, typer.Option(help=f"One of {', '.join(IMAGES)}, or any tag.")] = DEFAULT,
    seconds: Annotated[int, typer.Option(min=1, help="Time limit.")] = SECONDS,
    as_json: AsJson = False,
) -> None:
    """Run one command in a sandbox built as a task's is; its exit code is this one's."""
    settings, told, began = load_settings(), _Told(as_json=as_json), time.monotonic()
    wanted = Wanted(repo=repo, profiles=profile or (), hosts=host or ())
    run_until_signalled(_try(settings, wanted, told, command=command, image=image, seconds=seconds))
    if as_json:
        print_json(told.document(time.monotonic() - began))
    raise typer.Exit(told.status)


async def _try(
    settings: Settings,
    wanted: Wanted,
    told: _Told,
    *,
    command: list[str],
    image: str,
    seconds: int,
) -> None:
    launch, left_out = launch_for(settings, wanted)
    for name in left_out:
        inform(f"errand: without the connection {name}, whose secret is not here")
    tag = _image(image, settings)
    with empty_mirror() as mirror, closing(open_sandboxes(settings)) as backend:
        registries = await backend.registries(tag) if launch.profiles else ""
        opened = open_profiles(launch.profiles, registries=registries)
        for name in opened.empty:
            inform(f"errand: the profile {name} opens nothing: the image names no hosts for it")
        told.status = await trial.run(
            backend,
            trial.Trial(
                spec=spec_of(
                    launch,
                    image=tag,
                    mirror=mirror,
                    runtime=settings.work.runtime,
                    profiles=opened.rules,
                ),
                policy=message_of(launch, profiles=opened.rules, secrets=settings.secrets),
                argv=command,
                seconds=seconds,
                said=told.said,
                decided=told.decided,
            ),
        )


def _image(name: str, settings: Settings) -> str:
    """Acceptor and gateway run from the default image, whatever the command runs in."""
    ours = ensure_image(progress=inform, docker_host=settings.docker_host)
    if name == DEFAULT:
        return ours
    if name in IMAGES:
        return ensure_image(name, progress=inform, docker_host=settings.docker_host)
    return name
