"""`errand image`: what agents run in."""

from dataclasses import asdict
from typing import Annotated

import typer

from bot.cli.output import EXIT_NOT_FOUND, AsJson, complain, inform, print_json, print_table, say
from bot.settings import load_settings
from runner.images.build import ensure_image, list_images
from runner.images.context import DEFAULT, IMAGES

app = typer.Typer(help="Images that agents run in.", no_args_is_help=True, add_completion=False)


@app.command("build")
def build(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(IMAGES)}.")] = DEFAULT,
    again: Annotated[
        bool, typer.Option("--again", help="Though it is there: pip, npm or apt are set up anew.")
    ] = False,
) -> None:
    """Build an image, from a registry's base or from one made on this machine. Safe twice."""
    if name not in IMAGES:
        complain(f"there is no image {name!r}, but {', '.join(IMAGES)}")
        raise typer.Exit(EXIT_NOT_FOUND)
    tag = ensure_image(name, progress=inform, again=again, docker_host=load_settings().docker_host)
    say(tag)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """The images that were built here."""
    images = list_images(docker_host=load_settings().docker_host)
    if as_json:
        print_json([asdict(image) for image in images])
    elif not images:
        say("no images yet: `errand image build`")
    else:
        print_table(
            ["image", "MB", "current"],
            [(i.tag, i.size // 10**6, "yes" if i.current else "no") for i in images],
        )
