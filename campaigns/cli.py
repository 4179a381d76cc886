"""The command `matloop`.

Every command answers `--help` at once: what is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from campaigns import __version__
from campaigns.cli_backtest import backtest
from campaigns.cli_campaigns import export, ingest, propose, run, status
from campaigns.cli_dashboard import dashboard
from campaigns.cli_doctor import doctor
from campaigns.cli_explain import explain
from campaigns.cli_generators import generators
from campaigns.cli_keep import backup, replay, restore
from campaigns.cli_options import Json, UnusedDb, flow
from campaigns.cli_output import begin, current
from campaigns.cli_predict import predict
from campaigns.cli_prefer import prefer
from campaigns.cli_serve import serve, token
from campaigns.cli_tuning import tune
from campaigns.cli_watch import watch
from campaigns.cli_worker import worker
from campaigns.errors import MatloopError, UsageError

START, GO, LOOK = "Begin", "A campaign", "Look and check"
TOGETHER = "With others"

app = typer.Typer(
    name="matloop",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""[bold]For example[/bold]
  matloop init mine --template light-stiff    write a spec
  matloop run mine/light-stiff.yaml           run it; given again, it goes on
  matloop export light-stiff --format report  a page with what was found""",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"matloop {__version__}")
        raise typer.Exit


@app.callback()
def matloop(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback where matloop itself fails.")
    ] = False,
) -> None:
    """Design materials by active learning: propose, evaluate, learn, propose again.

    A campaign is one YAML file, its spec. Everything that happens is kept in one database, and
    every command can be interrupted and given again.
    """


@app.command(rich_help_panel=START)
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write it.")] = Path(),
    template: Annotated[
        str, typer.Option(metavar="NAME", help="Which ready campaign to start from.")
    ] = "light-stiff",
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Write a spec to start from."""
    out = begin("init", json)
    from campaigns.templates import write_template

    spec, schema = write_template(template, folder)
    out.result(
        {"template": template, "spec": str(spec), "schema": str(schema)},
        f"wrote {spec}, and {schema.name} by which editors complete it",
        f"next: matloop run {spec}",
    )


@app.command(rich_help_panel=START)
def validate(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The spec.", show_default=False)],
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Check a spec; name every mistake, and what would be right."""
    out = begin("validate", json)
    from campaigns.spec import load_spec
    from campaigns.spec_environment import check_own_generators
    from campaigns.spec_models import Target

    read = load_spec(spec)
    check_own_generators(read, recipes=False)
    units = read.metric_units()
    goals = ", ".join(
        f"to {o.goal} {m} ({units[m]})"
        if isinstance(o.goal, str)
        else f"{m} at {o.goal.target:g} {units[m]}"
        if isinstance(o.goal, Target)
        else f"where {m} crosses {o.goal.level:g} {units[m]}"
        for m, o in read.objectives.items()
    )
    bounds = f"; respects {', '.join(read.constraints)}" if read.constraints else ""
    out.result(
        {"spec": str(spec), "campaign": read.campaign, "content": read.model_dump(mode="json")},
        f"{spec} is right: campaign {read.campaign}",
        f"  searches {', '.join(read.space)}",
        f"  wants {goals}{bounds}",
        f"  evaluates {read.budget.trials} trials with {read.evaluate.with_}",
    )


for command in (run, propose, explain, ingest, prefer, status, export):
    app.command(rich_help_panel=GO)(command)
app.command(rich_help_panel=TOGETHER)(serve)
app.command(rich_help_panel=LOOK)(backup)
app.command(rich_help_panel=LOOK)(restore)
app.command(rich_help_panel=LOOK)(replay)
app.command(rich_help_panel=TOGETHER)(worker)
app.command(rich_help_panel=TOGETHER)(watch)
app.add_typer(token, name="token", rich_help_panel=TOGETHER)
generators.command()(tune)
app.add_typer(generators, rich_help_panel=LOOK)
app.command(rich_help_panel=LOOK)(predict)
app.command(rich_help_panel=LOOK)(backtest)
app.command(rich_help_panel=LOOK)(dashboard)
app.command(rich_help_panel=LOOK)(doctor)
flow(app)
flow(generators)
flow(token)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; default: those of this process.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted by Ctrl-C, 143 by SIGTERM,
        141 where nobody reads its output any more.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # Wherever a person puts it; and for mistakes in the arguments, before they are read.
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    begin("", "--json" in given, debug)
    try:
        try:
            _invoke(given)
            sys.stdout.flush()
            return 0
        except MatloopError as error:
            return current().error(error)
        except typer.Exit as error:
            sys.stdout.flush()
            return error.exit_code
        except typer.TyperException as error:
            return _misused(error)
        except KeyboardInterrupt:
            return current().interrupted()
        except BrokenPipeError:
            raise
        except SystemExit:
            return 141  # by rich, which so ends a help text that nobody reads
        # Whatever else comes is a defect: one line and a traceback to send, not a page of it.
        except Exception as error:
            return current().defect(error)
    except BrokenPipeError:
        # Whoever read it has seen enough (`| head`). Python flushes standard output once more when
        # it ends, which must go somewhere.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _invoke(arguments: list[str]) -> None:
    command = typer.main.get_command(app)
    with command.make_context("matloop", arguments) as context:
        command.invoke(context)


def _misused(error: typer.TyperException) -> int:
    """Tell of arguments that are wrong, in the form of every other error."""
    path = getattr(getattr(error, "ctx", None), "command_path", "matloop")
    out = current()
    out.command = out.command or path.removeprefix("matloop").strip()
    message = getattr(error, "format_message", error.__str__)()
    if type(error).__name__ == "NoArgsIsHelpError":
        if not out.json:
            return 2  # the help is shown by now
        message = "a command is missing"
    return out.error(
        UsageError(
            message[:1].lower() + message[1:].rstrip("."),
            where=path,
            hint=f"`{path} --help` shows how it is used",
        )
    )
