"""What a spec names outside itself: generators, models, files.

Asked when a spec is read from a file, and not of one that the store kept: a campaign can be looked
at where its generator is no more.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.bounds import BoundError
from campaigns.elements import SYMBOLS
from campaigns.errors import MatloopError, did_you_mean, quoted
from campaigns.predicted import all_bounds, predicted_bounds
from campaigns.spec_axes import (
    ELEMENTS,
    AnyAxis,
    ChoiceAxis,
    CompositionAxis,
    LatentAxis,
    PoolAxis,
)
from campaigns.spec_checks import Complaint, Draft, check_question, names_in
from campaigns.spec_evaluate_environment import check_evaluators, evaluate_with_absolute
from campaigns.spec_space import Sums, build, loop_axis, undescribed_axis

if TYPE_CHECKING:
    from campaigns.spec import Spec
    from generators.base import Generator

_RECIPES = (".yaml", ".yml")


def generator_names() -> list[str]:
    """Names of the generators that are installed, by their files; loads nothing."""
    return sorted(_installed("weights/*.safetensors") + baseline_names())


def baseline_names() -> list[str]:
    """Names of those among them that do not learn."""
    return _installed("recipes/baselines/*.yaml")


def _installed(pattern: str) -> list[str]:
    found = importlib.util.find_spec("generators")
    folders = found.submodule_search_locations if found else None
    return [path.stem for folder in folders or () for path in Path(folder).glob(pattern)]


def card_path(name_or_path: str) -> Path:
    """Where the card of a trained generator lies, or would lie: installed, or beside a path."""
    found = importlib.util.find_spec("generators")
    folders = found.submodule_search_locations if found else None
    installed = (Path(folder, "weights", f"{name_or_path}.json") for folder in folders or ())
    beside = Path(name_or_path).with_suffix(".json")
    return next((card for card in installed if card.is_file()), beside)


def load_latent(name_or_path: str) -> Generator:
    """The generator of a latent axis.

    Raises:
        MatloopError: It cannot be loaded.
    """
    from generators import load_generator

    try:
        return load_generator(name_or_path)
    except (OSError, ValueError, KeyError) as error:
        raise MatloopError(
            f"the generator {quoted(name_or_path)} cannot be loaded",
            why=" ".join(str(error).split()),
            hint="`matloop generators list` shows those that are installed",
        ) from error


def version_at(path: str) -> str | None:
    """The version of the generator whose weights are there; None without a card beside them."""
    from generators.files import version_of

    try:
        if is_recipe(path):
            from generators.crystals.baselines.recipe import baseline_card, read_recipe

            version: str | None = baseline_card(read_recipe(path))["version"]
            return version
        return version_of(json.loads(Path(path).with_suffix(".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_own_generators(spec: Spec, recipes: bool = True) -> None:
    """Load what only loading tells all of: generators of the user's own, and those with conditions.

    Args:
        spec: The spec.
        recipes: Those of recipes too, whose command may run for hours.

    Raises:
        MatloopError: One cannot be loaded, or knows nothing of what is asked of it.
    """
    for name, axis in spec.space.items():
        if not isinstance(axis, LatentAxis) or not (axis.conditions or is_path(axis.latent)):
            continue
        if recipes or not is_recipe(axis.latent):
            loop_axis(name, axis, list(spec.metric_units()))


def is_path(text: str) -> bool:
    """Whether a generator or model is meant as a path, not as a name."""
    endings = (".json", ".safetensors", *_RECIPES)
    return text.startswith((".", "~", "/", "\\")) or text.endswith(endings)


def is_recipe(path: str) -> bool:
    """Whether a path is that of the recipe of a generator that does not learn."""
    return path.endswith(_RECIPES)


def with_absolute_paths(data: Any, folder: Path) -> Any:
    """A spec's data with its paths made absolute, so that it means the same everywhere."""
    if not isinstance(data, dict):
        return data

    def absolute(text: Any) -> Any:
        # A name with a slash may be a folder here, or a model on a hub.
        if isinstance(text, str) and (is_path(text) or ("/" in text and _exists(folder / text))):
            return str((folder / Path(text).expanduser()).resolve())
        return text

    data = dict(data)
    if isinstance(space := data.get("space"), dict):
        data["space"] = {
            name: _with_absolute(axis, absolute, folder) for name, axis in space.items()
        }
    if isinstance(earlier := data.get("learn_from"), list):
        data["learn_from"] = [
            {**one, "table": str((folder / Path(one["table"]).expanduser()).resolve())}
            if isinstance(one, dict) and isinstance(one.get("table"), str) and one["table"]
            else one
            for one in earlier
        ]
    if isinstance(tune := data.get("fine_tune"), dict) and isinstance(tune.get("data"), str):
        place = str((folder / Path(tune["data"]).expanduser()).resolve())
        data["fine_tune"] = {**tune, "data": place}
    if "evaluate" in data:
        data["evaluate"] = evaluate_with_absolute(data["evaluate"], absolute, folder)
    return data


def _with_absolute(axis: Any, absolute: Callable[[Any], Any], folder: Path) -> Any:
    """An axis with its paths made absolute."""
    if not isinstance(axis, dict):
        return axis

    def table(text: Any) -> Any:
        if isinstance(text, str) and text and text != ELEMENTS:
            return str((folder / Path(text).expanduser()).resolve())
        return text

    axis = dict(axis)
    if "latent" in axis:
        axis["latent"] = absolute(axis["latent"])
    if "pool" in axis:
        axis["pool"] = table(axis["pool"])
    if "descriptors" in axis:
        given = axis["descriptors"]
        of_columns = isinstance(given, dict) and "pool" in axis
        axis["descriptors"] = (
            {column: table(one) for column, one in given.items()} if of_columns else table(given)
        )
    return axis


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def check_environment(draft: Draft) -> Iterator[Complaint]:
    """What a spec names and is not there."""
    yield from check_question(draft)
    names = generator_names()
    for axis_name, axis in draft.axes.items():
        if isinstance(axis, LatentAxis):
            loc = ("space", axis_name, "latent")
            if is_path(axis.latent) or "/" in axis.latent:
                if not _exists(Path(axis.latent)):
                    yield Complaint(loc, f"there is no generator at {quoted(axis.latent, 200)}")
                elif is_recipe(axis.latent):
                    yield from _check_recipe(axis.latent, loc)
                elif not axis.latent.endswith(".safetensors"):
                    hint = "the path of a .safetensors file, its card beside it, or of a recipe"
                    yield Complaint(loc, f"{quoted(axis.latent, 200)} is no generator", hint)
                else:
                    yield from _check_weights(axis.latent, loc)
            elif names and axis.latent not in names:
                what = f"there is no generator {quoted(axis.latent)}"
                yield Complaint(loc, what, did_you_mean(axis.latent, names))
            if "predicted" in (axis.embed or ()):
                yield from _check_predicted(axis, ("space", axis_name, "embed"))
            if axis.conditions:
                yield from _check_conditions(axis, ("space", axis_name, "conditions"))
            if draft.fine_tune is not None and (
                is_recipe(axis.latent) or axis.latent in baseline_names()
            ):
                what = f"{quoted(axis.latent)} is a generator that does not learn"
                yield Complaint(("fine_tune",), what, "remove it, or search a trained generator")
    yield from _check_tables(draft)
    if draft.screen is not None and draft.screen.predicted:
        yield from _check_predictions(draft.screen.predicted)
    for k, one in enumerate(draft.earlier):
        if not isinstance(one, str) and not _exists(Path(one.table)):
            what = f"there is no table {quoted(one.table, 200)}"
            yield Complaint(("learn_from", k, "table"), what)
    data = draft.fine_tune.data if draft.fine_tune else None
    if data is not None and not _exists(Path(data)):
        hint = "without `data`, what the generator draws stands for its training data"
        yield Complaint(("fine_tune", "data"), f"there is no folder {quoted(data, 200)}", hint)
    yield from check_evaluators(draft)


def _check_predictions(texts: Sequence[str]) -> Iterator[Complaint]:
    """Bounds on predictions that nothing predicts, or that no crystal could meet together."""
    from generators.crystals.predictors import PredictorError, check_installed

    loc, wrong = ("screen", "predicted"), False
    for k, text in enumerate(texts):
        try:
            for bound in predicted_bounds(text):
                check_installed(bound.predictor)
        except (BoundError, PredictorError) as error:
            wrong = True
            yield Complaint((*loc, k), str(error), error.hint)
    if not wrong:
        try:
            all_bounds(texts)
        except BoundError as error:
            yield Complaint(loc, error.what, error.hint)


def _check_weights(path: str, loc: tuple[str | int, ...]) -> Iterator[Complaint]:
    """Whether weights are those of the card beside them; without one, their loading tells."""
    if not card_path(path).is_file():
        return
    from generators.files import read_card

    try:
        read_card(Path(path))
    except (OSError, ValueError) as error:
        what = " ".join(str(error).split())
        yield Complaint(loc, what, "a .safetensors file and its card are moved together")


def _check_predicted(axis: LatentAxis, loc: tuple[str | int, ...]) -> Iterator[Complaint]:
    """Whether a trained generator foretells what `embed: [predicted]` tells, by its card."""
    from generators.crystals.embedding import PREDICTED

    try:
        told = json.loads(card_path(axis.latent).read_text(encoding="utf-8"))["properties"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # no card, or none of a trained generator: its loading tells
    if not set(PREDICTED) <= {str(p).removeprefix("log_") for p in told}:
        what = f"what predictors tell does not go with {quoted(axis.latent)}"
        yield Complaint(loc, f"{what}, which foretells other properties", "leave it out")


def _check_conditions(axis: LatentAxis, loc: tuple[str | int, ...]) -> Iterator[Complaint]:
    """Whether conditions mean something; whether the generator knows of them its loading tells."""
    from generators.crystals.conditions import ConditionError, Conditions

    if is_recipe(axis.latent) or axis.latent in baseline_names():
        what = f"the generator {quoted(axis.latent)} takes no conditions"
        yield Complaint(loc, what, "its recipe says in its own keys what is drawn")
        return
    try:
        Conditions.of_search(axis.conditions or {})
    except ConditionError as error:
        yield Complaint(loc, " ".join(str(error).split()), "as in {chemical_system: Li-Fe-O}")


def _check_recipe(path: str, loc: tuple[str | int, ...]) -> Iterator[Complaint]:
    from generators.crystals.baselines.recipe import baseline_card, read_recipe

    try:
        baseline_card(read_recipe(path))
    except (OSError, ValueError, KeyError) as error:
        hint = "the path of a .safetensors file, its card beside it, or of a recipe"
        why = " ".join(str(error).split())
        yield Complaint(loc, f"{quoted(path, 200)} is no generator: {why}", hint)


def _check_tables(draft: Draft) -> Iterator[Complaint]:
    """Pools and descriptors that cannot be read, and constraints that leave nothing."""
    readable: dict[str, AnyAxis] = {}
    for name, axis in draft.axes.items():
        if isinstance(axis, LatentAxis):
            continue
        complaint = None
        if isinstance(axis, PoolAxis):
            complaint = _check_pool(name, axis)
        elif isinstance(axis, ChoiceAxis | CompositionAxis):
            complaint = _check_described(name, axis)
        if complaint is None:
            readable[name] = axis
        else:
            yield complaint
    held, places = Sums(readable), {}
    for index, stated in draft.stated:
        text = draft.constraints[index]
        with contextlib.suppress(BoundError):  # told by who checks the parts against each other
            if set(names_in(stated)) <= draft.parameters:
                held.take(stated, text)
                places[text] = index
    if held.sums or any(isinstance(a, CompositionAxis) and a.step for a in readable.values()):
        yield from _check_feasible(held, places)


def _check_feasible(held: Sums, places: Mapping[str, int]) -> Iterator[Complaint]:
    from loop.space import Infeasible

    try:
        build(Sums({n: undescribed_axis(a) for n, a in held.axes.items()}, held.sums))
    except Infeasible as error:
        index = max(places[str(c)] for c in error.constraints)
        hint = "loosen one of them, or the bounds of the axes"
        yield Complaint(("constraints", index), str(error), hint)
    except ValueError as error:
        last = max(places.values(), default=None)
        loc: tuple[str | int, ...] = ("space",) if last is None else ("constraints", last)
        yield Complaint(loc, " ".join(str(error).split()), "constraints and bounds leave nothing")
    except MatloopError as error:
        yield Complaint(("space",), error.what, error.why)


def _check_pool(name: str, axis: PoolAxis) -> Complaint | None:
    loc = ("space", name, "pool")
    if not _exists(Path(axis.pool)):
        return Complaint(loc, f"there is no table {quoted(axis.pool, 200)}")
    try:
        loop_axis(name, axis)
    except MatloopError as error:
        return Complaint(loc, error.why or error.what, error.hint)
    return None


def _check_described(name: str, axis: ChoiceAxis | CompositionAxis) -> Complaint | None:
    loc, given = ("space", name, "descriptors"), axis.descriptors
    if not isinstance(given, str):
        return None
    categories = axis.choice if isinstance(axis, ChoiceAxis) else axis.composition
    if given == ELEMENTS:
        odd = [str(c) for c in categories if not _is_formula(str(c))]
        if odd:
            what = f"{quoted(odd[0])} is neither an element nor a formula"
            return Complaint(loc, what, "name a table of descriptors")
        return None
    if not _exists(Path(given)):
        return Complaint(loc, f"there is no table {quoted(given, 200)}", "or the word elements")
    try:
        loop_axis(name, axis)
    except MatloopError as error:
        return Complaint(loc, error.why or error.what, error.hint)
    return None


def _is_formula(text: str) -> bool:
    """Whether a text is elements, numbers and brackets; pymatgen would take long to load."""
    parts = re.findall(r"[A-Z][a-z]?", text)
    rest = re.sub(r"[A-Z][a-z]?|\d+(?:\.\d+)?|[()\[\]]", "", text)
    return bool(parts) and not rest and all(part in SYMBOLS for part in parts)
