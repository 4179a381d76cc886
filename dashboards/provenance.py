"""Where the numbers come from: generator, evaluator, seeds, software; how to make them again."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dashboards.facts import Facts
from dashboards.typography import duration, listed, percent, plural

Row = tuple[str, str]


def everything(facts: Facts) -> dict[str, Any]:
    """All of it, by part."""
    return {
        "campaign": campaign(facts),
        "evaluator": evaluator(facts),
        "generators": generators(facts),
        "software": software(facts),
        "reproduce": reproduce(facts),
    }


def generators(facts: Facts) -> list[dict[str, Any]]:
    """For each generator version: its name, what its card says, and the whole card."""
    return [
        {
            "title": f"{g['name']}, version {g['version']}",
            "rows": _card_rows(g["card"], g["parent"]),
            "card": json.dumps(_trimmed(g["card"]), indent=1, ensure_ascii=False),
        }
        for g in facts.generators
    ]


def _card_rows(card: dict[str, Any], parent: str | None) -> list[Row]:
    rows: list[Row] = [("Fine-tuned from", parent)] if parent else []
    for key, label in (
        ("description", "What it is"),
        ("licence", "Licence"),
        ("license", "Licence"),
    ):
        if isinstance(card.get(key), str):
            rows.append((label, card[key]))
    for path, found in _having(card, "match_rate"):
        low, high = (*(found.get("match_rate_95") or ()), None, None)[:2]
        text = percent(found["match_rate"])
        if low is not None and high is not None:
            text += f" (95 % interval {percent(low)} to {percent(high)})"
        if found.get("crystals"):
            text += f" of {plural(found['crystals'], 'held-out crystal')}"
        rows.append((f"Held-out designs that decode to a match{_of(path)}", text))
    for path, found in _having(card, "draws_valid"):
        text = f"{percent(found['draws_valid'])} of draws"
        if found.get("sample_valid") is not None:
            text += f", {percent(found['sample_valid'])} of samples"
        if found.get("samples"):
            text += f" ({found['samples']:,} drawn)"
        rows.append((f"Valid designs from the prior{_of(path)}", text))
    sources = [s for _, found in _having(card, "sources") for s in found["sources"]]
    told = [_source(s) for s in sources if isinstance(s, dict)]
    if told:
        rows.append(("Learnt from", "; ".join(dict.fromkeys(told))))
    if isinstance(card.get("minutes"), int | float):
        rows.append(("Training", f"{card['minutes']:g} min"))
    if isinstance(card.get("weights_sha256"), str):
        rows.append(("SHA-256 of its weights", card["weights_sha256"]))
    return rows


def _source(source: dict[str, Any]) -> str:
    text = str(source.get("citation") or source.get("file") or source.get("name") or "?")
    licence = source.get("licence") or source.get("license")
    return f"{text} ({licence})" if licence else text


def _having(
    tree: Any, key: str, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """All mappings in a card that have a key, with the way to them."""
    if isinstance(tree, dict):
        if tree.get(key) is not None:
            yield path, tree
        for name, branch in tree.items():
            yield from _having(branch, key, (*path, str(name)))


def _of(path: tuple[str, ...]) -> str:
    """The last word of the way to a figure: the data set, where there is one for each."""
    plain = {"held_out", "metrics", "reconstruction", "prior", "evaluation", "figures"}
    words = [p for p in path if p not in plain]
    return f" ({words[-1]})" if words else ""


def _trimmed(value: Any) -> Any:
    """A card without its long tables of numbers."""
    if isinstance(value, dict):
        return {k: _trimmed(v) for k, v in value.items()}
    if isinstance(value, list):
        if len(value) > 12 and all(isinstance(v, int | float) for v in value):
            return f"{len(value)} numbers"
        return [_trimmed(v) for v in value]
    return value


def evaluator(facts: Facts) -> list[Row]:
    """Who answered, with what, how long it took."""
    config = facts.spec.evaluator_config()
    settings = ", ".join(f"{k} {v}" for k, v in config.items() if k not in ("with", "metrics"))
    rows: list[Row] = [("Asked for", f"{config['with']}{': ' if settings else ''}{settings}")]
    sources = Counter(
        o["source"] for t in facts.trials for o in t["observations"].values()
    )  # fmt: skip
    if sources:
        said = [f"{s} ({plural(n, 'value')})" for s, n in sources.most_common()]
        rows.append(("Sources of the results", ", ".join(said)))
    told = [p["evaluator"] for p in facts.told("trial_completed") if p.get("evaluator")]
    for key, label in (
        ("model", "Model"), ("weights_sha256", "SHA-256 of its weights"),
        ("packages", "Packages"), ("settings", "Settings"),
    ):  # fmt: skip
        values = dict.fromkeys(_flat(t[key]) for t in told if t.get(key))
        if values:
            rows.append((label, " | ".join(values)))
    elements = [
        t["elements"]["set"]
        for t in told
        if isinstance(t.get("elements"), dict) and t["elements"].get("set")
    ]
    if elements:
        rows.append(("Elements' reference energies", ", ".join(dict.fromkeys(map(str, elements)))))
    ended = [p for kind in ("trial_completed", "trial_failed") for p in facts.told(kind)]
    seconds = [p["seconds"] for p in ended if p.get("seconds")]
    if seconds:
        mean = sum(seconds) / len(seconds)
        rows.append(("Time", f"{duration(sum(seconds))} in all, {duration(mean)} a trial"))
    if facts.corrected:
        rows.append(("Corrected later", plural(facts.corrected, "value")))
    return rows


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


def campaign(facts: Facts) -> list[Row]:
    """The campaign itself: when, how it ended, its seed."""
    rows: list[Row] = [("Begun", facts.created.strftime("%Y-%m-%d %H:%M UTC"))]
    if facts.events:
        rows.append(("Last event", facts.events[-1]["time"][:16].replace("T", " ") + " UTC"))
    ends = facts.told("run_ended")
    if ends:
        rows.append(("The last run ended", str(ends[-1].get("message") or ends[-1].get("reason"))))
    runs, cut = len(facts.told("run_started")), len(facts.told("run_interrupted"))
    if runs:
        rows.append(("Runs", f"{runs}" + (f", {cut} of them interrupted" if cut else "")))
    methods = Counter(t["provenance"].get("method") or "by hand" for t in facts.trials)
    if methods:
        said = [f"{n} by {m}" for m, n in methods.most_common()]
        rows.append(("Trials proposed", listed(said)))
    rows.append(("Seed", str(facts.spec.seed)))
    rows.append(("Database", facts.database))
    rows.append(("SHA-256 of the spec", facts.spec_hash))
    return rows


def software(facts: Facts) -> list[Row]:
    """Versions that the proposals were made with; several where they changed on the way."""
    versions: dict[str, dict[str, None]] = {}
    for trial in facts.trials:
        for package, version in (trial["provenance"].get("software") or {}).items():
            versions.setdefault(str(package), {})[str(version)] = None
    return [(package, ", then ".join(found)) for package, found in versions.items()]


def reproduce(facts: Facts) -> dict[str, str]:
    """Commands that make the campaign again, and Python that measures one of its crystals again."""
    name = facts.name
    versions = " ".join(
        f"{p}=={v.split(', then ')[-1]}" for p, v in software(facts) if p != "matloop"
    )
    lines = [f"pip install {versions}"] if versions else []
    lines += [
        f"# save the spec above as {name}.yaml",
        f"matloop run {shlex.quote(name + '.yaml')} --db sqlite:///again.db",
        f"matloop export {shlex.quote(name)} --db sqlite:///again.db --format report",
    ]
    return {"shell": "\n".join(lines), "python": _again(facts)}


def _again(facts: Facts) -> str:
    config = facts.spec.evaluator_config()
    if config["with"] != "potential":
        return ""
    return (
        "from pathlib import Path\n"
        "from loop.evaluators import make_evaluator\n\n"
        f"evaluator = make_evaluator({config!r})\n"
        'crystal = {"cif": Path("the-file-you-saved.cif").read_text()}\n'
        f'answer = evaluator.evaluate({{"crystal": crystal}}, {list(facts.metrics)!r}, seed=0)\n'
        "for metric, value in answer.measurements.items():\n"
        "    print(metric, value.mean, value.unit)\n"
    )
