"""The command `matloop generators evaluate`: how good a generator is, beside published figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaigns.cli_conditions import conditions_of, draw
from campaigns.cli_options import Json, UnusedDb
from campaigns.cli_output import Output, begin
from campaigns.errors import MatloopError, UsageError, did_you_mean, quoted

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from rich.console import RenderableType

    from generators.base import Generator
    from generators.crystals.metrics import Plan, Row

_FILES = (".safetensors", ".yaml", ".yml")
_SETS = ("perov5", "carbon24", "mp20")
_SHOWN_PROBLEMS = 20


def evaluate(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A generator's name, its file, or a folder of CIF files.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Crystals to encode and to compare with: .csv, .csv.gz, .json.gz or .zip.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="FILE",
            help="Known crystals: what is new, and the hull, is told by them.",
            show_default="--data",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="How many to draw.")
    ] = 1000,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="METRICS",
            help="Of reconstruction, validity, coverage, distances, novelty, stability, "
            "optimisation, review: some, with commas.",
            show_default="all that apply",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Use N crystals of the data at most.", show_default="all"
        ),
    ] = None,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out", help="Use only crystals of the data that training never saw, by the card."
        ),
    ] = False,
    data_set: Annotated[
        str | None,
        typer.Option(
            "--set",
            metavar="NAME",
            help="Cut-offs and published figures: perov5, carbon24 or mp20.",
            show_default="what the data look like",
        ),
    ] = None,
    constraint: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What efficiency asks of a sample, as 'density < 4'.",
            show_default="formation_energy < -0.5",
        ),
    ] = None,
    relax: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many samples CHGNet relaxes.")
    ] = 100,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes.", show_default="one for each core"),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="The same seed, the same draws.")
    ] = 0,
    conditions: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="What is asked of each sample, as in `generators sample`.",
            show_default=False,
        ),
    ] = None,
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Measure a generator, beside published figures.

    It encodes the crystals of a file and decodes them again, draws samples, and tells by the
    metrics of the field how many come back, are valid, cover the data, are new, and are stable. A
    folder of CIF files from elsewhere is measured as samples. docs/generators.md defines each
    metric.
    """
    out = begin("generators evaluate", json)
    folder = _folder(name)
    asked = conditions_of(conditions, None)
    groups = _groups(only)
    if data_set is not None and data_set not in _SETS:
        raise UsageError(f"there is no data set {quoted(data_set)}", where="--set",
                         hint=did_you_mean(data_set, _SETS))  # fmt: skip
    if held_out and (folder is not None or data is None):
        raise UsageError("--held-out needs a generator and --data", where="--held-out")
    out.note(f"measuring {name}")
    from generators.crystals.metrics import Constraint, Plan
    from generators.crystals.metrics import evaluate as measure
    from generators.crystals.parallel import cores

    problems: list[str] = []
    plan = Plan(samples=[], only=groups, data_set=data_set, relax=relax, seed=seed)
    plan.workers = workers or cores()
    if constraint is not None:
        try:
            plan.constraint = Constraint.parse(constraint)
        except ValueError as error:
            raise UsageError(str(error), where="--constraint") from error
    _read_data(plan, data, against, problems)
    told: dict[str, Any] = {"generator": name}
    if folder is not None:
        plan.samples = _read_folder(folder, problems)
        told = {"folder": str(folder), "crystals": len(plan.samples)}
    else:
        plan.generator = _load(name)
        told["version"] = plan.generator.version
        _choose(plan, plan.generator, data, held_out)
        out.note(f"drawing {samples} samples")
        plan.samples, met = draw(plan.generator, samples, seed, asked)
        if asked:
            told |= {"conditions": asked, "met": met}
        elif met:
            out.note(met)
        for row in plan.generator.card.get("data", {}).get("refused", []):
            problems.append(f"{row['name']}: {row['reason']}")
    if limit is not None:
        plan.data = plan.data[:limit]
    if "stability" in groups:
        from campaigns.relaxing import Rest

        plan.potential = Rest
    found = measure(plan, out.note)
    _show(out, told | {"seed": seed, "problems": problems} | found)


def _folder(name: str) -> Path | None:
    """The folder that a name stands for; None for a generator."""
    from campaigns.spec_environment import generator_names

    if name in generator_names() or name.endswith((".safetensors", ".yaml", ".yml")):
        return None
    if Path(name).is_dir():
        return Path(name)
    hint = did_you_mean(name, generator_names())
    raise UsageError(
        f"there is no generator {quoted(name)}",
        hint=hint or "give the path of a generator's file, or a folder of CIF files",
    )


def _groups(only: str | None) -> tuple[str, ...]:
    from generators.crystals.metrics import GROUPS

    asked = [word.strip() for word in only.split(",")] if only else list(GROUPS)
    for word in asked:
        if word not in GROUPS:
            raise UsageError(f"there is no metric {quoted(word)}", where="--only",
                             hint=did_you_mean(word, GROUPS))  # fmt: skip
    return tuple(g for g in GROUPS if g in asked)


def _load(name: str) -> Generator:
    from campaigns.spec_environment import load_latent

    if name.endswith(_FILES) and not Path(name).is_file():
        raise UsageError("there is no such file", where=name)
    return load_latent(name)


def _read_data(plan: Plan, data: Path | None, against: Path | None, problems: list[str]) -> None:
    if data is not None:
        plan.labelled = plan.data = _rows(data, problems)
        plan.known, plan.against = [r.structure for r in plan.data], data.name
    if against is not None:
        plan.known, plan.against = [r.structure for r in _rows(against, problems)], against.name


def _rows(path: Path, problems: list[str]) -> list[Row]:
    from generators.crystals.metrics import read_rows

    try:
        rows, wrong = read_rows(path)
    except OSError as error:
        raise UsageError(str(error.strerror or error), where=str(path)) from error
    except (ValueError, KeyError, EOFError) as error:
        raise UsageError(" ".join(str(error).split()), where=str(path)) from error
    problems += wrong
    if not rows:
        raise UsageError("the file holds no crystal that can be used", where=str(path),
                         why=wrong[0] if wrong else None)  # fmt: skip
    return rows


def _read_folder(folder: Path, problems: list[str]) -> list[Structure | None]:
    """The crystals of a folder's CIF files; each that is none is a problem."""
    from campaigns.cif_file import read_cif
    from campaigns.errors import InputErrors
    from generators.crystals.metrics import check

    found: list[Structure | None] = []
    files = sorted(folder.rglob("*.cif"))
    for file in files:
        try:
            structure = read_cif(file)
            check(structure)
        except InputErrors as error:
            problems.append(str(error.problems[0]))
        except MatloopError as error:
            problems.append(f"{file}: {error.what}")
        except ValueError as error:
            problems.append(f"{file}: {error}")
        else:
            found.append(structure)
    if not found:
        what = f"none of {len(files)} files is a crystal" if files else "there is no .cif file"
        raise UsageError(what, where=str(folder), why=problems[0] if problems else None)
    return found


def _choose(plan: Plan, generator: Generator, data: Path | None, held_out: bool) -> None:
    """Tell which columns of the data the heads predict; keep the rows that are held out."""
    from generators.crystals.metrics import columns_of
    from generators.crystals.metrics import held_out as unseen

    if data is None:
        return
    plan.columns = columns_of(generator.card, data)
    if held_out:
        try:
            plan.data = unseen(list(plan.data), generator.card, data)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError("its card does not say what was held out", where="--held-out",
                             why=f"no {error}") from error  # fmt: skip
        if not plan.data:
            raise UsageError("no crystal of the file was held out", where=str(data))


def _show(out: Output, found: dict[str, Any]) -> None:
    from campaigns.cli_tables import table

    shown: list[RenderableType] = []
    made = table("metric", "value", "95 %", "of", f"published ({found['data_set']})",
                 numeric=["value", "95 %", "of"])  # fmt: skip
    for name, figure in found["figures"].items():
        beside = ", ".join(
            f"{p['model']} {_number(p['value'], figure['unit'])}" for p in figure["published"]
        )
        ends = [_number(figure[end], figure["unit"]) for end in ("low", "high")]
        made.add_row(
            name,
            f"{_number(figure['value'], figure['unit'])} {_unit(figure['unit'])}".strip(),
            " to ".join(ends) if all(ends) else "",
            str(figure["n"]),
            beside,
        )
    shown.append(made)
    shown += _told(found)
    out.result(found, *shown)


def _told(found: dict[str, Any]) -> Iterator[str]:
    notes: dict[str, list[str]] = {}
    for name, figure in found["figures"].items():
        if figure["note"]:
            notes.setdefault(figure["note"], []).append(name)
    yield from (f"{', '.join(names)}: {note}" for note, names in notes.items())
    yield from (f"{group} was not measured: {why}" for group, why in found["unmeasured"].items())
    if found["problems"]:
        yield f"{len(found['problems'])} crystals could not be used:"
        yield from (f"  {line}" for line in found["problems"][:_SHOWN_PROBLEMS])
        if len(found["problems"]) > _SHOWN_PROBLEMS:
            yield f"  ... and {len(found['problems']) - _SHOWN_PROBLEMS} more; --json lists them"
    yield "published figures are of other splits and training sets: not like for like"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}" if unit == "share" else f"{value:.4g}"


def _unit(unit: str) -> str:
    return "%" if unit == "share" else unit
