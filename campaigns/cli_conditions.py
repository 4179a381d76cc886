"""Conditions on what a generator draws, as options of commands."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaigns.cli_options import Json, UnusedDb
from campaigns.cli_output import Output, begin
from campaigns.errors import UsageError, quoted

if TYPE_CHECKING:
    from generators.base import Generator

_PANEL = "What is asked of each"
_NOTHING = "nothing was drawn or written"
_ROOM = 4  # atoms of a crystal of which a part is kept, over those of one that is made
_EXAMPLE = """as in '{"chemical_system": "Li-Fe-O"}'"""

Conditions = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help="Conditions as JSON, with the names of the options below.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Composition = Annotated[
    str | None,
    typer.Option(
        metavar="FORMULA",
        help="This composition, as Fe2O3.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="Li-Fe-O",
        help="All of these elements and no others.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Elements = Annotated[
    str | None,
    typer.Option(
        metavar="Li-Fe-O-S",
        help="No others than these elements.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Contains = Annotated[
    str | None,
    typer.Option(
        metavar="Li-O",
        help="These elements, among others.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
SpaceGroup = Annotated[
    str | None,
    typer.Option(
        metavar="GROUP",
        help="Space group: its number or symbol.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
CrystalSystem = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Crystal system, as cubic.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Atoms = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Atoms in the primitive cell.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
MaxAtoms = Annotated[
    int | None,
    typer.Option(metavar="N", help="At most.", show_default=False, rich_help_panel=_PANEL),
]
Property = Annotated[
    list[str] | None,
    typer.Option(
        "--property",
        metavar="NAME=VALUE",
        help="A wish that draws lean to, as formation_energy=-2; may be repeated.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Crystals of the kind of this data set of the model card.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="How far draws stray from known crystals: 0.3 fewer kinds nearer to rest, 1 more.",
        show_default="the generator's",
        rich_help_panel=_PANEL,
    ),
]
Unbalanced = Annotated[
    bool,
    typer.Option(
        "--unbalanced",
        help="Take compositions too whose charges do not balance by smact's rule.",
        rich_help_panel=_PANEL,
    ),
]
Unsteady = Annotated[
    bool,
    typer.Option(
        "--unsteady",
        help="Take crystals too that do not come back from their latent vectors as they are.",
        rich_help_panel=_PANEL,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="How strongly draws lean to what is asked; 1 is as learnt.",
        show_default="1.5",
        rich_help_panel=_PANEL,
    ),
]


def conditions_of(
    conditions: str | None, properties: list[str] | None, **given: Any
) -> dict[str, Any]:
    """What the options ask for, as `generators.crystals.conditions.Conditions.parse` reads it.

    Raises:
        UsageError: The JSON, or a property, is not readable, or something is given twice.
    """
    asked: dict[str, Any] = {}
    if conditions is not None:
        try:
            asked = json_format.loads(conditions)
        except ValueError as error:
            raise UsageError("the conditions are no JSON", where="--conditions", why=str(error),
                             hint=_EXAMPLE) from error  # fmt: skip
        if not isinstance(asked, dict):
            raise UsageError("conditions are a JSON object", where="--conditions",
                             hint=_EXAMPLE)  # fmt: skip
    wishes: dict[str, float] = {}
    for text in properties or []:
        name, _, value = text.partition("=")
        try:
            wishes[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(f"{quoted(text)} is no property with a value", where="--property",
                             hint="as in formation_energy=-2") from error  # fmt: skip
    options = {k: v for k, v in given.items() if v is not None}
    if wishes:
        options["properties"] = wishes
    if both := sorted(set(asked) & set(options)):
        raise UsageError(f"{both[0]} is given both in --conditions and as an option")
    return asked | options


@contextmanager
def explained_conditions() -> Iterator[None]:
    """Turn conditions that mean nothing, or that a generator does not take, into our errors."""
    try:
        yield
    except ValueError as error:
        raise UsageError(" ".join(str(error).split()), unchanged=_NOTHING) from error


def draw(
    generator: Generator, n: int, seed: int, asked: Mapping[str, Any]
) -> tuple[list[Any], str | None]:
    """Designs, None where none was found, and a line on how many draws it took.

    Of an external generator these are all that it has, be they fewer.

    Raises:
        UsageError: The conditions mean nothing, or not to this generator.
    """
    from generators.crystals.external import ExternalGenerator
    from generators.crystals.generator import CrystalGenerator

    with explained_conditions():
        if isinstance(generator, ExternalGenerator):  # it has so many, and no more
            drawn = generator.drawn(n, seed, asked)
            lacks = f"{generator.name} has no more: {len(drawn.designs)} of {n}"
            told = drawn.told if asked else lacks if len(drawn.designs) < n else None
            return list(drawn.designs), told
        if isinstance(generator, CrystalGenerator) and asked:
            drawn = generator.draw(n, seed, asked)
            return [*drawn.designs, *[None] * (n - len(drawn.designs))], drawn.told
        return generator.sample(n, seed=seed, conditions=dict(asked) or None), None


def tell(
    out: Output,
    generator: Generator,
    designs: list[Any],
    folder: Path | None,
    seed: int,
    data: dict[str, Any],
    lines: list[str],
) -> None:
    """Print designs, or write them into a folder.

    Raises:
        UsageError: A file of the name is there, and holds something else.
    """
    told: list[dict[str, Any]] = []
    files: dict[Path, str] = {}
    known = _familiarity(generator, designs)
    for i, design in enumerate(designs):
        if design is None:
            continue
        as_data = generator.to_json(design)
        one: dict[str, Any] = {"name": generator.describe(design)}
        if i in known:
            one["familiarity"] = round(known[i], 3)
        if folder is None:
            one["design"] = as_data
        else:
            text, ending = (
                (as_data["cif"], "cif")
                if "cif" in as_data
                else (json_format.dumps(as_data, ensure_ascii=False) + "\n", "json")
            )
            file = folder / f"{generator.name}-{seed}-{i}.{ending}"
            one["file"], files[file] = str(file), text
        told.append(one)
    _write(files)
    shown = [_line(one) for one in told]
    head = {"generator": generator.name, "version": generator.version, "seed": seed}
    out.result({**head, **data, "designs": told}, *shown, *lines)


def _line(told: Mapping[str, Any]) -> str:
    familiar = f"familiarity {told['familiarity']:.2f}" if "familiarity" in told else ""
    return "  ".join(text for text in (told["name"], familiar, told.get("file", "")) if text)


def _familiarity(generator: Generator, designs: Sequence[Any]) -> dict[int, float]:
    """By position, how well a trained generator knows designs; without those that it cannot tell.

    See `CrystalGenerator.familiarity`.
    """
    from generators.crystals.generator import CrystalGenerator

    if not isinstance(generator, CrystalGenerator) or generator.learnt_prior is None:
        return {}
    z, at = generator.embedded(designs)
    return dict(zip(at, map(float, generator.familiarity(z)), strict=True))


def _write(files: Mapping[Path, str]) -> None:
    """Write files, none over one that holds something else: such come from another call."""
    from campaigns.write_file import write_whole

    for file, text in files.items():
        if file.is_file() and file.read_bytes() != text.encode():
            raise UsageError(
                "a file of this name holds another design",
                where=str(file),
                unchanged="the folder",
                hint="give another folder by --out, or another --seed",
            )
    for file, text in files.items():
        write_whole(file, text)


def complete(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A crystal, or a fragment of one.", show_default=False),
    ],
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ELEMENT",
            help="Atoms of this element stay as they are; may be repeated. Without it all stay, "
            "and others are added.",
            show_default=False,
        ),
    ] = None,
    keep_sites: Annotated[
        bool,
        typer.Option(
            "--keep-sites", help="The others stay in place, and only their elements are chosen."
        ),
    ] = False,
    generator: Annotated[
        str, typer.Option(metavar="NAME", help="What completes it: a name or a file.")
    ] = "crystals",
    n: Annotated[int, typer.Option("-n", min=1, max=10_000, metavar="N", help="How many.")] = 10,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="The same seed, the same draws.")
    ] = 0,
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write them here as CIF.", show_default=False),
    ] = None,
    conditions: Conditions = None,
    composition: Composition = None,
    system: System = None,
    elements: Elements = None,
    contains: Contains = None,
    atoms: Atoms = None,
    max_atoms: MaxAtoms = None,
    property_: Property = None,
    guidance: Guidance = None,
    temperature: Temperature = None,
    unbalanced: Unbalanced = False,
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Complete a crystal of which a part is fixed.

    Its space group stays. The same part gives different crystals, no two with the same elements on
    the same positions.
    """
    out = begin("generators complete", json)
    asked = conditions_of(
        conditions, property_, composition=composition, chemical_system=system,
        elements=elements, contains=contains, atoms=atoms, max_atoms=max_atoms, guidance=guidance,
        temperature=temperature, balanced=False if unbalanced else None,
    )  # fmt: skip
    from campaigns.spec_environment import load_latent
    from campaigns.write_file import make_folder
    from generators.crystals.completion import partial_of
    from generators.crystals.crystal_files import Refused, read_crystals
    from generators.crystals.generator import CrystalGenerator

    if folder is not None:
        make_folder(folder)
    drawer = load_latent(generator)
    if not isinstance(drawer, CrystalGenerator):
        raise UsageError(f"{drawer.name} does not complete crystals", where="--generator",
                         hint="crystals does")  # fmt: skip
    try:
        rows = [*islice(read_crystals(file), 2)]
    except (OSError, ValueError) as error:
        raise UsageError(str(error), where=str(file), unchanged=_NOTHING) from error
    row = rows[0] if rows else None
    if row is None or isinstance(row, Refused):
        why = None if row is None else row.reason
        raise UsageError("there is no crystal to complete", where=str(file), why=why,
                         unchanged=_NOTHING)  # fmt: skip
    if len(rows) > 1:
        raise UsageError("there is more than one crystal", where=str(file), unchanged=_NOTHING,
                         hint="give the file of the one that is to be completed")  # fmt: skip
    with explained_conditions():
        partial = partial_of(row.structure, fix or (), keep_sites, _ROOM * drawer.max_atoms)
        drawn = drawer.complete(partial, n, seed, asked)
    data = {"asked": n, "draws": drawn.draws, "misses": dict(drawn.misses)}
    tell(out, drawer, list(drawn.designs), folder, seed, data, [drawn.told])
