"""The commands `matloop generators ...`: what can be designed, and how well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from campaigns import cli_conditions
from campaigns.cli_evaluate import evaluate
from campaigns.cli_options import Json, UnusedDb
from campaigns.cli_output import Output, begin
from campaigns.cli_predict import Where, draw_where
from campaigns.errors import MatloopError, UsageError, did_you_mean, quoted
from campaigns.tuning_words import of_card

generators = typer.Typer(
    name="generators",
    help="See, try, check and train what designs are drawn from.",
    no_args_is_help=True,
)

_RECIPE = (".yaml", ".yml")
_SHOWN = 20
"""Rows of other people's crystals that are told to be wrong, one by one."""

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A generator's name, its .safetensors file, or its .yaml recipe.",
        show_default=False,
    ),
]


@generators.command("list")
def list_(db: UnusedDb = None, json: Json = False) -> None:
    """List the generators that are installed."""
    out = begin("generators list", json)
    from campaigns.cli_tables import table
    from campaigns.spec_environment import generator_names

    found = [_summary(_card(name)) for name in generator_names()]
    made = table("name", "version", "latent dimensions", "what it designs",
                 numeric=["latent dimensions"])  # fmt: skip
    for told in found:
        made.add_row(told["name"], told["version"], str(told["dimensions"]), told["description"])
    out.result({"generators": found}, made if found else "no generator is installed")


@generators.command()
def show(name: Name, db: UnusedDb = None, json: Json = False) -> None:
    """Show a model card: data, licences, figures on held-out rows."""
    out = begin("generators show", json)
    card = _card(name)
    told = _summary(card)
    data = card.get("data", {})
    head = [
        f"{told['name']}, version {told['version'] or 'not known before its command has run'}",
        f"  {told['description']}",
        f"  latent dimensions: {told['dimensions']}",
    ]
    if "baseline" in card:
        rules = {k: v for k, v in card["recipe"].items() if v not in (None, [], {})}
        lines = [*head, "  it does not learn; its recipe:", *_lines(rules, "    ")]
        out.result({**told, "card": card}, *lines)
        return
    tuned = of_card(card)
    lines = [
        *head,
        *([f"  fine-tuned: {tuned}"] if tuned else []),
        f"  trained: {card.get('minutes')} minutes, on {data.get('rows')} rows of",
        *(f"    {s['file']} ({s['licence']}): {s['citation']}" for s in data.get("sources", [])),
        f"  held out: {data.get('held_out_rows')} rows, of which",
        *_lines(card.get("metrics", {}), "    "),
    ]
    out.result({**told, "card": card}, *lines)


@generators.command()
def sample(
    name: Name,
    n: Annotated[int, typer.Option("-n", min=1, max=100_000, metavar="N", help="How many.")] = 10,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="The same seed, the same draws.")
    ] = 0,
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write them here as CIF.", show_default=False),
    ] = None,
    conditions: cli_conditions.Conditions = None,
    composition: cli_conditions.Composition = None,
    system: cli_conditions.System = None,
    elements: cli_conditions.Elements = None,
    contains: cli_conditions.Contains = None,
    space_group: cli_conditions.SpaceGroup = None,
    crystal_system: cli_conditions.CrystalSystem = None,
    atoms: cli_conditions.Atoms = None,
    max_atoms: cli_conditions.MaxAtoms = None,
    property_: cli_conditions.Property = None,
    source: cli_conditions.Source = None,
    guidance: cli_conditions.Guidance = None,
    temperature: cli_conditions.Temperature = None,
    unbalanced: cli_conditions.Unbalanced = False,
    unsteady: cli_conditions.Unsteady = False,
    where: Where = None,
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Draw designs from a generator's prior: any, or those that meet conditions.

    Composition, elements, symmetry and size are met by everything that is returned; properties are
    leaned to, and with --where drawn anew until predictors agree. What an
    adapter follows is asked for likewise: `--property density=3`.
    """
    out = begin("generators sample", json)
    asked = cli_conditions.conditions_of(
        conditions, property_, composition=composition, chemical_system=system,
        elements=elements, contains=contains, space_group=space_group,
        crystal_system=crystal_system, atoms=atoms, max_atoms=max_atoms, source=source,
        guidance=guidance, temperature=temperature, balanced=False if unbalanced else None,
        steady=False if unsteady else None,
    )  # fmt: skip
    from campaigns.spec_environment import load_latent
    from campaigns.write_file import make_folder

    if folder is not None:
        make_folder(folder)
    _check_name(name)
    generator = load_latent(name)
    if name.endswith(_RECIPE):
        _tell_refused(out, generator.card["data"].get("refused", []))
    if where:
        designs, met = draw_where(
            lambda k: cli_conditions.draw(generator, n, k, asked)[0], n, seed, where
        )
    else:
        designs, met = cli_conditions.draw(generator, n, seed, asked)
    found = sum(d is not None for d in designs)
    lines = [met] if met else []
    if found < n and not met:
        lines.append(f"{n - found} of {n} draws gave no valid design")
    data = {"asked": n, **({"conditions": asked} if asked else {})}
    if where:
        data["where"] = where
    cli_conditions.tell(out, generator, designs, folder, seed, data, lines)


generators.command()(evaluate)
generators.command()(cli_conditions.complete)


@generators.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A recipe's name, or its file.", show_default=False),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", help="The folder of the recipe's data.", show_default=False
        ),
    ],
    path: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", help="The .safetensors file to write.", show_default=False
        ),
    ],
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or mps.")] = "cpu",
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Train a generator by a recipe.

    Writes its weights, and its model card beside them.
    """
    out = begin("generators train", json)
    _check_out(path)
    _check_device(device)
    out.note(f"reading {data}")

    def on_epoch(epoch: int, losses: dict[str, float]) -> None:
        out.note(f"epoch {epoch}: " + ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))

    with _explained(recipe):
        from generators.training import train_generator

        written = train_generator(
            recipe, data, path, device=device, on_epoch=on_epoch, note=out.note
        )
    card = _card(str(written))
    out.result(
        {"weights": str(written), **_summary(card), "metrics": card.get("metrics", {})},
        f"wrote {written}, and {written.with_suffix('.json').name} beside it",
        *_lines(card.get("metrics", {}), "  "),
        f"next: in a spec, space: {{crystal: {{latent: {written}}}}}",
    )


@generators.command("fit-prior")
def fit_prior(
    name: Name,
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", help="The folder of its recipe's data.", show_default=False
        ),
    ],
    path: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", help="The .safetensors file to write.", show_default=False
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The recipe whose part `prior` is used.", show_default="its own"
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or mps.")] = "cpu",
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Learn where a trained generator's designs are, so that it draws them and takes conditions.

    The network stays as it is; the learnt prior goes beside it, as another version.
    """
    out = begin("generators fit-prior", json)
    _check_out(path)
    _check_device(device)
    _check_name(name)

    def on_epoch(epoch: int, losses: dict[str, float]) -> None:
        out.note(f"{500 * epoch} steps: " + ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))

    with _explained(name):
        from generators import WEIGHTS, trained_names
        from generators.training import refit_prior

        weights = WEIGHTS / f"{name}.safetensors" if name in trained_names() else Path(name)
        written = refit_prior(weights, data, path, recipe, device, on_epoch)
    card = _card(str(written))
    out.result(
        {"weights": str(written), **_summary(card), "prior": card["prior"]},
        f"wrote {written}, and {written.with_suffix('.json').name} beside it",
        *_lines(card["metrics"].get("prior", {}), "  "),
    )


def _check_out(path: Path) -> None:
    """Hours of training end in a file: see now whether it can be kept."""
    from campaigns.write_file import check_writable, make_folder

    if path.suffix != ".safetensors":
        raise UsageError("weights are a .safetensors file", where=f"--out {path}",
                         hint=f"--out {path.with_suffix('.safetensors')}")  # fmt: skip
    if path.with_suffix(".json").exists():
        raise UsageError("there is a generator already", where=str(path), unchanged="that file",
                         hint="a version never changes: name another file with --out")  # fmt: skip
    check_writable(path)
    make_folder(path.parent)


def _check_device(device: str) -> None:
    from generators.training import check_device

    try:
        check_device(device)
    except ValueError as error:
        raise UsageError(
            f"there is no device {quoted(device)} here", where="--device", why=str(error),
            hint="`matloop doctor` shows what there is",
        ) from error  # fmt: skip


def _card(name_or_path: str) -> dict[str, Any]:
    """A model card by its generator's name or path; loads no weights."""
    from campaigns.spec_environment import card_path, generator_names
    from generators.crystals.baselines.recipe import baseline_card, is_recipe, read_recipe
    from generators.files import read_card

    if is_recipe(name_or_path):
        with _explained(name_or_path):
            return baseline_card(read_recipe(name_or_path))
    path = card_path(name_or_path)
    trained = name_or_path.endswith((".safetensors", ".json"))
    if not trained and name_or_path not in generator_names():
        raise _unknown(name_or_path)
    try:
        card = read_card(path.with_suffix(".safetensors"))
        _summary(card)
    except OSError as error:
        raise UsageError(
            "there is no such model card", where=str(path), why=error.strerror or str(error)
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "this is not the model card of a generator", where=str(path), why=str(error)
        ) from error
    return dict(card)


def _tell_refused(out: Output, refused: list[dict[str, str]]) -> None:
    """Say which crystals of a file or folder were left out."""
    for row in refused[:_SHOWN]:
        out.note(f"left out {row['name']}: {row['reason']}")
    if len(refused) > _SHOWN:
        out.note(f"left out {len(refused) - _SHOWN} more")


def _summary(card: dict[str, Any]) -> dict[str, Any]:
    """What a card says in a line."""
    from generators.files import version_of

    return {
        "name": card["name"],
        "version": card["version"] if "baseline" in card else version_of(card),
        "parent": card.get("parent"),
        "kind": card.get("kind"),
        "dimensions": (
            card["dimensions"] if "baseline" in card else card["recipe"]["network"]["latent"]
        ),
        "description": card.get("description", ""),
    }


def _unknown(name: str) -> UsageError:
    from campaigns.spec_environment import generator_names

    hint = did_you_mean(name, generator_names()) or (
        "give the path of a .safetensors file, or of a .yaml recipe"
    )
    return UsageError(f"there is no generator {quoted(name)}", hint=hint)


def _check_name(name: str) -> None:
    """Refuse what is neither the name of a generator nor a path, before anything is loaded."""
    from campaigns.spec_environment import generator_names

    if name not in generator_names() and not name.endswith((".safetensors", *_RECIPE)):
        raise _unknown(name)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what `generators` raises of files that are absent or wrong into our errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(str(error.strerror or error), where=str(error.filename or name)) from error
    except (OSError, ValueError, KeyError) as error:
        raise MatloopError(" ".join(str(error).split()), where=name) from error


def _lines(values: dict[str, Any], indent: str) -> Iterator[str]:
    """Nested figures as indented lines."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{key}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(map(_shown, value)) if len(value) == 2 else ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
