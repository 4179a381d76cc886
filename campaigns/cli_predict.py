"""The command `matloop predict`, and predictions as conditions on what is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaigns.bounds import BoundError
from campaigns.cli_options import Json, UnusedDb
from campaigns.cli_output import Output, begin
from campaigns.errors import MatloopError, UsageError, did_you_mean, quoted

if TYPE_CHECKING:
    from generators.crystals.crystal_files import Read, Refused
    from generators.crystals.predictors import Predictor

_SHOWN = 20
"""Rows that could not be read, told one by one."""
MOST_ROUNDS = 20
"""Draws for each design that is asked for, before giving up."""

Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="BOUND",
        help="What predictors must say of each, as 'formation_energy <= -0.5 eV/atom'; may be "
        "repeated. Others are drawn anew.",
        show_default=False,
        rich_help_panel="What is asked of each",
    ),
]


def predict(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="Crystals: .cif, .csv with a column cif, .json.gz, .zip, or a folder of them.",
            show_default=False,
        ),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME",
            help="A predictor, or a matgl model: its folder or OWNER/NAME on the hub; may be "
            "repeated.",
            show_default="matgl, synthesizability",
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the predictors, and how far each was off.")
    ] = False,
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Predict properties of crystals, without a campaign.

    What a predictor cannot tell, of an element that it never saw, stays empty.
    docs/predictors.md tells what each learnt from.
    """
    out = begin("predict", json)
    from generators.crystals.predictors import predictor_names

    names = list(dict.fromkeys(with_ or ("matgl", "synthesizability")))
    for name in names:
        # Any other is a folder, or a model on a hub, where every one has an owner.
        if name not in predictor_names() and "/" not in name and not Path(name).is_dir():
            hint = did_you_mean(name, predictor_names())
            raise UsageError(f"there is no predictor {quoted(name)}", where="--with", hint=hint)
    if list_:
        _list(out)
        return
    if not files:
        raise UsageError("no crystal is given", hint="give a file, or --list to see the predictors")
    rows, refused = _read(files)
    for row in refused[:_SHOWN]:
        out.note(f"left out {row.name}: {row.reason}")
    if len(refused) > _SHOWN:
        out.note(f"left out {len(refused) - _SHOWN} more")
    if not rows:
        why = refused[0].reason if refused else None
        raise UsageError("there is no crystal in it", where=str(files[0]), why=why)
    _tell(out, rows, refused, [_load(name) for name in names])


def _read(files: Sequence[Path]) -> tuple[list[Read], list[Refused]]:
    from generators.crystals.crystal_files import Read, read_crystals

    found, refused = [], []
    for file in files:
        try:
            for row in read_crystals(file):
                if isinstance(row, Read):
                    found.append(row)
                else:
                    refused.append(row)
        except (OSError, ValueError) as error:
            raise UsageError(str(error), where=str(file)) from error
    return found, refused


def _load(name: str) -> Predictor:
    from generators.crystals.predictors import PredictorError
    from loop.evaluators.base import EvaluatorError
    from loop.predicted import load_any

    try:
        return load_any(name)
    except PredictorError as error:
        raise MatloopError(str(error), where=name, hint=error.hint) from error
    except EvaluatorError as error:
        raise MatloopError(error.what, where=name, hint=error.hint) from error


def _tell(
    out: Output, rows: list[Read], refused: list[Refused], predictors: list[Predictor]
) -> None:
    from campaigns.cli_tables import number, table

    structures = [row.structure for row in rows]
    values = {}
    for predictor in predictors:
        out.note(f"asking {predictor.name}")
        values[predictor.name] = predictor.predict(structures)
    made = table("crystal", "property", "value", "+-", "unit", "predictor", numeric=["value", "+-"])
    told: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        formula = row.structure.composition.reduced_formula
        name, predicted = f"{row.name}, {formula}", {}
        for predictor in predictors:
            one: dict[str, dict[str, Any]] = {}
            figures = zip(predictor.properties.items(), values[predictor.name][i], strict=True)
            for (metric, unit), value in figures:
                error = predictor.card.get("errors", {}).get(metric, {}).get("mae")
                figure = number(value), number(error), _unit(unit)
                made.add_row(name, metric, *figure, predictor.name)
                name = ""  # said once
                known = None if value != value else float(value)
                one[metric] = {"value": known, "unit": unit, "mean_error": error}
            predicted[predictor.name] = one
        told.append({"name": row.name, "formula": formula, "predicted": predicted})
    left_out = [{"name": row.name, "reason": row.reason} for row in refused]
    line = "+- is the mean error on crystals that were held out: `--list` tells which"
    out.result({"crystals": told, "left_out": left_out}, made, line)


def _unit(unit: str) -> str:
    return "" if unit == "dimensionless" else unit


def _list(out: Output) -> None:
    from campaigns.cli_tables import number, table
    from generators.crystals.predictors import predictor_card, predictor_names

    made = table("predictor", "property", "unit", "mean error", "R2", "measured on",
                 numeric=["mean error", "R2"])  # fmt: skip
    cards, lines = [], []
    for name in predictor_names():
        card = predictor_card(name)
        cards.append({k: v for k, v in card.items() if k not in ("recipe", "element_energies")})
        lines.append(f"{name}: {card['description']} {card['citation']}. {card['licence']}")
        for metric, unit in card["properties"].items():
            errors = card.get("errors", {}).items()
            measured = [e for label, e in errors if label.partition(",")[0] == metric]
            for error in measured or [{}]:
                made.add_row(name, metric, unit, number(error.get("mae")), number(error.get("r2")),
                             error.get("rows", ""))  # fmt: skip
    out.result({"predictors": cards}, made, *lines)


# Predictions as conditions on what is drawn


def draw_where(
    draw: Callable[[int], Sequence[Any]], n: int, seed: int, texts: Sequence[str]
) -> tuple[list[Any], str | None]:
    """Draw crystals until n are predicted to meet the bounds, or `MOST_ROUNDS` times n were drawn.

    Args:
        draw: A seed to n designs, None where there is none.
        n: How many are wanted.
        seed: Of the first round; the next round has the next one.
        texts: Bounds on predictions.

    Returns:
        Up to n designs, and a line on how many draws it took and which bounds were broken.

    Raises:
        UsageError: A bound cannot be read or nothing predicts its property.
    """
    from campaigns.predicted import all_bounds
    from generators.crystals.identity import identity
    from generators.crystals.predictors import PredictorError
    from loop.predicted import broken

    found: list[Any] = []
    seen: set[bytes] = set()
    refused: Counter[str] = Counter()
    drawn = 0
    try:
        bounds = all_bounds(texts)
        for k in range(MOST_ROUNDS):
            some = draw(seed + k)
            valid = [design for design in some if design is not None]
            new = {key: d for d in valid if (key := identity(d)) not in seen}
            designs, seen = list(new.values()), seen | set(new)
            drawn += len(some)
            refused["no valid design"] += len(some) - len(valid)
            refused["drawn before"] += len(valid) - len(designs)
            for design, why in zip(designs, broken(designs, bounds), strict=True):
                if why is None:
                    found.append(design)
                else:
                    refused[why[0]] += 1
            if len(found) >= n or (valid and not designs):  # an external one has no more
                break
    except BoundError as error:
        raise UsageError(error.what, where="--where", hint=error.hint) from error
    except PredictorError as error:
        raise MatloopError(str(error), where="--where", hint=error.hint) from error
    told = ", ".join(f"{count} {rule}" for rule, count in refused.most_common() if count)
    met = f"{min(len(found), n)} of {n} found in {drawn} draws; refused: {told or 'none'}"
    return found[:n], met
