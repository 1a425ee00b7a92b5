"""The command line, `sluice`, put together from one file per group of commands."""

from typing import Annotated

import typer

from cli.accounts import accounts_app
from cli.activity import activity
from cli.address import address
from cli.demo import demo
from cli.errors import SluiceGroup
from cli.hooks import hooks_app
from cli.imports import import_contacts
from cli.jobs import apply, cancel, list_jobs, pause, resume, show_job
from cli.keys import keys_app
from cli.migrate import grant_role, migrate
from cli.new_action import new_action
from cli.output_guard import encode_output
from cli.rendering import print_text
from cli.results import results
from cli.signing_keys import signing_keys
from cli.submit import add_action_commands, plan_app, submit_app
from cli.up import up
from cli.verify import verify
from runtime.program import program_name
from runtime.settings import Settings
from runtime.version import commit, version

app = typer.Typer(
    cls=SluiceGroup,
    help="Bulk consent changes on contact lists. Every address is checked, changed only if the"
    " rules allow it, and accounted for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer calls it like this
    if value:
        build = commit(Settings())
        print_text(f"sluice {version()}" + (f" (commit {build})" if build else ""))
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Accept `--version` before a command."""


app.command("up")(up)
app.command("migrate")(migrate)
app.command("grants")(grant_role)
app.command("import")(import_contacts)
app.add_typer(submit_app, name="submit")
app.add_typer(plan_app, name="plan")
app.command("apply")(apply)
app.command("jobs")(list_jobs)
app.command("job")(show_job)
app.command("results")(results)
app.command("pause")(pause)
app.command("resume")(resume)
app.command("cancel")(cancel)
app.command("address")(address)
app.command("activity")(activity)
app.command("verify")(verify)
app.add_typer(accounts_app, name="accounts")
app.add_typer(keys_app, name="keys")
app.add_typer(hooks_app, name="hooks")
app.command("signing-keys")(signing_keys)
app.command("demo")(demo)
app.command("new-action")(new_action)
add_action_commands()


def main() -> None:
    """Run the program `sluice`."""
    encode_output()
    app(prog_name=program_name())
