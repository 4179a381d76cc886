"""Where the numbers come from: generator, evaluator, seeds, software; how to make them again."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from campaigns.facts import Facts
from campaigns.spec import written_seed
from campaigns.tuning_words import of_card
from dashboards import words
from dashboards.typography import duration, listed, percent, plural

Row = tuple[str, str]


def everything(facts: Facts) -> dict[str, Any]:
    """All of it, by part."""
    return {
        "campaign": campaign(facts),
        "evaluator": evaluator(facts),
        "generators": generators(facts),
        "database": database(facts),
        "spec": spec(facts),
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
    """The lines of a card that a reader of results needs; the rest stays in the card."""
    data, metrics = _part(card, "data"), _part(card, "metrics")
    prior = _part(metrics, "prior")
    rows = [
        ("What it is", str(card.get("description") or "")),
        ("Fine-tuned", of_card(card) or (f"from {parent}" if parent else "")),
        ("Learnt from", "; ".join(map(_source, data.get("sources") or []))),
        ("Training", _training(card, data)),
        ("Held-out designs that decode to a match", _matches(_part(metrics, "held_out"))),
        ("The same, by source", _by_source(_part(metrics, "held_out_by_source"))),
        ("Draws from the prior that are valid", _valid(prior)),
        ("SHA-256 of its weights", str(card.get("weights_sha256") or "")),
    ]
    return [(label, text) for label, text in rows if text]


def _part(tree: dict[str, Any], key: str) -> dict[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, dict) else {}


def _training(card: dict[str, Any], data: dict[str, Any]) -> str:
    said = []
    if data.get("rows"):
        held = f", {data['held_out_rows']:,} more held out" if data.get("held_out_rows") else ""
        said.append(f"{plural(data['rows'], 'row')}{held}")
    if card.get("minutes"):
        said.append(f"{card['minutes']:g} min")
    return "; ".join(said)


def _matches(figures: dict[str, Any]) -> str:
    rate, interval = figures.get("match_rate"), figures.get("match_rate_95")
    if rate is None:
        return ""
    text = percent(rate)
    if interval:
        text += f" (95 % interval {percent(interval[0])} to {percent(interval[1])})"
    return text + (f" of {figures['crystals']:,}" if figures.get("crystals") else "")


def _by_source(figures: dict[str, Any]) -> str:
    known = {source: f.get("match_rate") for source, f in figures.items() if isinstance(f, dict)}
    return ", ".join(
        f"{source.partition('/')[0]} {percent(rate)}"
        for source, rate in known.items()
        if rate is not None
    )


def _valid(figures: dict[str, Any]) -> str:
    if figures.get("draws_valid") is None:
        return ""
    text = percent(figures["draws_valid"])
    if figures.get("samples"):
        text += f" of {figures['samples']:,}"
    if figures.get("sample_valid") is not None:
        text += f"; of what it gives when asked for samples, {percent(figures['sample_valid'])}"
    return text


def _source(source: Any) -> str:
    if not isinstance(source, dict):
        return str(source)
    text = str(source.get("citation") or source.get("file") or "a source without a name")
    return f"{text} ({source['licence']})" if source.get("licence") else text


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
    if overruled := words.overruled(facts):
        rows.append(("Gone on in spite of", "; ".join(overruled)))
    runs, cut = len(facts.told("run_started")), len(facts.told("run_interrupted"))
    if runs:
        rows.append(("Runs", f"{runs}" + (f", {cut} of them interrupted" if cut else "")))
    methods = Counter(t["provenance"].get("method") or "by hand" for t in facts.trials)
    if methods:
        said = [f"{n} by {m}" for m, n in methods.most_common()]
        rows.append(("Trials proposed", listed(said)))
    rows.append(("Seed", str(facts.spec.seed)))
    rows.append(("Database", database(facts)))
    rows.append(("SHA-256 of the spec", facts.spec_hash))
    return rows


def database(facts: Facts) -> str:
    """The database's address; of a file only its name, since the page may travel."""
    return facts.database if "://" in facts.database else Path(facts.database).name


def spec(facts: Facts) -> str:
    """The spec as it was written; one that a program made, with a key a line."""
    try:
        return json.dumps(json.loads(facts.spec_text), indent=1, ensure_ascii=False)
    except ValueError:
        return facts.spec_text


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
        # the last there was, without a mark such as +cpu, which is of the build and in no index
        f"{package}=={found.split(', then ')[-1].partition('+')[0]}"
        for package, found in software(facts)
        if package != "matloop"
    )
    given = facts.spec.seed  # by --seed, where it is not that of the spec's text
    seed = f" --seed {given}" if written_seed(facts.spec_text) != given else ""
    lines = [f"pip install {versions}"] if versions else []
    lines += [
        f"# save the spec above as {name}.yaml",
        f"matloop run {shlex.quote(name + '.yaml')}{seed} --db sqlite:///again.db",
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
