"""The command line, a module per group of commands."""

import typer

from bot.cli import admin, run, task
from bot.cli.output import EXIT_CODES

app = typer.Typer(
    name="errand",
    help="A mention becomes a pull request, made by an agent in a container of its own.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
run.add_to(app)
admin.add_to(app)
app.add_typer(task.app, name="task")
