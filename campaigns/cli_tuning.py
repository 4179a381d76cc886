"""The command `matloop generators tune`: a generator learns from a table of results."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaigns.cli_generators import Name, _card, _check_name, _check_out, _explained
from campaigns.cli_options import Json, UnusedDb
from campaigns.cli_output import begin
from campaigns.errors import MatloopError, UsageError, did_you_mean
from campaigns.spec_tuning import METHODS
from campaigns.tuning_words import figures

if TYPE_CHECKING:
    from generators.fine_tuning import Aim

_SHOWN = 5


def tune(
    name: Name,
    results: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="CSV with a column cif and one a metric, as `matloop export` writes.",
            show_default=False,
        ),
    ],
    seek: Annotated[
        list[str],
        typer.Option(
            metavar="TEXT",
            help="'maximize NAME', 'minimize NAME', 'target NAME 1.4' or 'NAME <= 0.1'; again for "
            "more.",
            show_default=False,
        ),
    ],
    path: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", help="The .safetensors file to write.", show_default=False
        ),
    ],
    method: Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(METHODS)}.")] = "adapter",
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of the optimizer.", show_default="the method's"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The generator's training data, to replay.",
            show_default="its own draws",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of all chance.")] = 0,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="How many of them.")] = 1,
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Fine-tune a generator on results, into a new version with this one as its parent.

    Killed and called again, it goes on. A version that lost too much of what its parent could do is
    not written.
    """
    out = begin("generators tune", json)
    if method not in METHODS:
        raise UsageError(f"there is no method {method!r}", hint=did_you_mean(method, METHODS))
    _check_out(path)
    _check_name(name)
    with _explained(str(results)):
        from generators import load_generator
        from generators.crystals.embedding import PredictedProperties
        from generators.fine_tuning import Examined, Recipe, Runtime
        from generators.fine_tuning.process import run_job, start_job
        from generators.fine_tuning.results import read_results

        aims = [read_aim(text) for text in seek]
        table = read_results(results, [aim.metric for aim in aims])
        for number, why in table.refused[:_SHOWN]:
            out.note(f"row {number} left out: {why}")
        if len(table.refused) > _SHOWN:
            out.note(f"{len(table.refused) - _SHOWN} more rows left out")
        parent = load_generator(name)
        known = table.examined
        recipe = Recipe(method=method, aims=tuple(aims), steps=steps, seed=seed,  # type: ignore[arg-type]
                        data=None if data is None else str(data.absolute()),
                        predicted=PredictedProperties.suits(parent))  # fmt: skip
        place = path.absolute().with_name(f".{path.stem}.tuning")
        named = str(Path(name).absolute()) if name.endswith(".safetensors") else name
        as_data = Examined([parent.to_json(d) for d in known.designs], known.values, known.failed)
        start_job(place, named, parent.version, as_data, recipe, path,
                  Runtime(device=device, devices=devices))  # fmt: skip
        out.note(f"{method}: learning from {len(known)} designs")
        result = run_job(place, on_progress=_telling(out))
    if result["kind"] != "tuned":
        collapsed = result["kind"] == "collapsed"
        if collapsed or result.get("final"):  # the same would come of it again
            shutil.rmtree(place)
        else:
            (place / "result.json").unlink(missing_ok=True)
        raise MatloopError(
            "no new version was made",
            where=name,
            why=str(result["message"]),
            unchanged=f"{name}; nothing was written",
            hint="fewer steps, more replay or another method may keep more" if collapsed else None,
        )
    shutil.rmtree(place)
    card = _card(str(path))
    told = {key: result[key] for key in ("version", "before", "after", "minutes", "learned_from")}
    left = result["learned_from"]["skipped"]
    out.result(
        {"weights": str(path), "parent": parent.version, "refused": list(table.refused), **told},
        f"wrote {path}, and {path.with_suffix('.json').name} beside it",
        f"version {result['version']}, from {parent.version}; {result['minutes']:.1f} minutes, "
        f"{result['learned_from']['designs']} designs",
        *(f"  {count} left out: {why}" for why, count in left.items()),
        f"  {figures(result['before'], result['after'])}",
        *(f"  a teacher on designs kept from it: R2 {r2:.2f} of {metric}"
          for metric, r2 in card["fine_tuning"].get("teacher_r2", {}).items()),
        f"next: in a spec, space: {{crystal: {{latent: {path}}}}}",
    )  # fmt: skip


def read_aim(text: str) -> Aim:
    """An aim from what a person writes.

    Raises:
        UsageError: It is none.
    """
    from generators.fine_tuning import Aim

    number = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
    if match := re.fullmatch(r"\s*(maximi[sz]e|minimi[sz]e)\s+(\w+)\s*", text):
        return Aim(match[2], "maximize" if match[1].startswith("max") else "minimize")
    if match := re.fullmatch(rf"\s*target\s+(\w+)\s+({number})\s*", text):
        return Aim(match[1], "target", float(match[2]))
    if match := re.fullmatch(rf"\s*(\w+)\s*(<=|>=)\s*({number})\s*", text):
        return Aim(match[1], "at_most" if match[2] == "<=" else "at_least", float(match[3]))
    raise UsageError(
        "this says not what is sought",
        where=f"--seek {text!r}",
        hint="'maximize NAME', 'minimize NAME', 'target NAME 1.4' or 'NAME <= 0.1', each in the "
        "unit of the results",
    )


def _telling(out: Any) -> Any:
    told = 0

    def on_progress(progress: Mapping[str, Any]) -> None:
        nonlocal told
        tenth = 10 * int(progress["step"]) // int(progress["steps"])
        if tenth > told:
            told = tenth
            out.note(f"step {progress['step']} of {progress['steps']}: loss {progress['loss']:.4g}")

    return on_progress
