"""What every evaluator promises: a design goes in, numbers with units come out, or a reason."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymatgen.core import Structure


LARGEST = 1e100
"""No measurement is larger, in any unit: the square of such a number, times many, is none."""


class EvaluatorError(ValueError):
    """The evaluator itself cannot work (bad configuration, missing or wrong model).

    Unlike `EvaluationFailed` this is not about one design: every trial would end the same way.

    Args:
        what: What is wrong, in one line.
        hint: What the person could do about it.
    """

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what if hint is None else f"{what} (hint: {hint})")
        self.what = what
        self.hint = hint


class EvaluationFailed(Exception):
    """One design could not be measured; the trial fails and its reason is kept.

    Args:
        reason: One line, for the person who reads the campaign.
        infeasible: Whether such a design cannot be (atoms overlap, it melts), rather than that this
            attempt came to nothing.
    """

    def __init__(self, reason: str, infeasible: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.infeasible = infeasible


@dataclass(frozen=True)
class Measurement:
    """A number with its unit; `sem` is the standard error of the mean, None if not known."""

    mean: float
    sem: float | None
    unit: str


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator found out about one design.

    Attributes:
        measurements: Metric name to measurement.
        artifacts: File name to its text (for example the relaxed crystal, `relaxed.cif`).
        seconds: Wall time that the evaluation took.
        provenance: Software versions, model, hash of weights, settings; JSON.
    """

    measurements: dict[str, Measurement]
    artifacts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `from_json` is the inverse."""
        return {
            "measurements": {
                name: {"mean": m.mean, "sem": m.sem, "unit": m.unit}
                for name, m in self.measurements.items()
            },
            "artifacts": dict(self.artifacts),
            "seconds": self.seconds,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError: If `data` is not of that form.
        """
        return cls(
            measurements={
                name: Measurement(float(m["mean"]), m["sem"], str(m["unit"]))
                for name, m in data["measurements"].items()
            },
            artifacts=dict(data["artifacts"]),
            seconds=float(data["seconds"]),
            provenance=dict(data["provenance"]),
        )


class Evaluator(ABC):
    """Answers a trial without a person."""

    @abstractmethod
    def metrics(self) -> dict[str, str]:
        """Return every metric it can answer, with the unit it answers in (pint's spelling)."""

    @abstractmethod
    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Measure one design.

        Args:
            design: The design in its JSON form: axis name to number, string, or `{"cif": text}`.
            metrics: The metrics asked for; nothing else is computed.
            seed: For evaluators that draw random numbers.

        Raises:
            EvaluationFailed: If this design has no trustworthy answer; carries the reason.
            EvaluatorError: If a metric is asked for that this evaluator does not know.
        """

    def at(self, fidelity: str) -> Evaluator:
        """The same evaluator at one of the campaign's fidelities.

        Raises:
            EvaluatorError: It has no such fidelity.
        """
        raise EvaluatorError(
            f"this evaluator does not know of fidelities such as {fidelity!r}",
            "one that does is a Python function that takes `fidelity`, or a laboratory",
        )

    def prepare(self) -> None:  # noqa: B027 - most evaluators have nothing to prepare
        """Do once, where there may be a network, what trials cannot do (download a model).

        Raises:
            EvaluatorError: If it cannot be done.
        """

    def check(self, metrics: Sequence[str]) -> None:
        """Load everything that `evaluate` needs and test it.

        Raises:
            EvaluatorError: If every trial would fail, with the reason.
        """
        self.check_metrics(metrics)

    def check_metrics(self, metrics: Sequence[str]) -> None:
        """Refuse metrics that this evaluator cannot answer.

        Raises:
            EvaluatorError: Names the unknown metrics and the known ones.
        """
        known = self.metrics()
        unknown = [name for name in metrics if name not in known]
        if unknown:
            listed = ", ".join(f"{name} ({unit})" for name, unit in known.items())
            raise EvaluatorError(
                f"this evaluator does not give {', '.join(unknown)}", f"it gives {listed}"
            )


def check_evaluation(evaluation: Evaluation, metrics: Sequence[str]) -> None:
    """Refuse an evaluation that lacks a metric or holds a number that is none.

    Raises:
        EvaluationFailed: With the metric and what is wrong with it.
    """
    for name in metrics:
        measurement = evaluation.measurements.get(name)
        if measurement is None:
            raise EvaluationFailed(f"{name}: the evaluator gave no value")
        if not math.isfinite(measurement.mean):
            raise EvaluationFailed(f"{name}: the value is {measurement.mean}, not a finite number")
        if abs(measurement.mean) > LARGEST:
            raise EvaluationFailed(f"{name}: the value is {measurement.mean}, which cannot be")
        sem = measurement.sem
        if sem is not None and not (math.isfinite(sem) and sem >= 0):
            raise EvaluationFailed(f"{name}: the standard error is {sem}, which cannot be")


def crystal_of(design: Mapping[str, Any]) -> Structure:
    """Return the one crystal of a design.

    Args:
        design: JSON form; the crystal is the one value that is a mapping with the key `cif`.

    Raises:
        EvaluatorError: If the design has no crystal, or more than one.
        EvaluationFailed: If the CIF cannot be read.
    """
    texts = {
        axis: value["cif"]
        for axis, value in design.items()
        if isinstance(value, Mapping) and "cif" in value
    }
    if len(texts) != 1:
        raise EvaluatorError(
            f"this evaluator needs exactly one crystal in a design, but the design has {len(texts)}"
            + (f" ({', '.join(texts)})" if texts else f"; its axes are {', '.join(design)}")
        )
    return read_cif(next(iter(texts.values())))


def read_cif(text: str) -> Structure:
    """Return the crystal that a CIF holds, in the cell the CIF gives.

    Raises:
        EvaluationFailed: If the text is not a CIF with one ordered crystal.
    """
    import warnings

    from pymatgen.io.cif import CifParser

    try:
        with warnings.catch_warnings():
            # pymatgen tells of every rounding and of a missing Z by a warning; only failure counts.
            warnings.simplefilter("ignore", UserWarning)
            structures = CifParser.from_str(text).parse_structures(primitive=False)
    # CifParser raises whatever its parsing stumbles over; all of it means "not a readable CIF".
    except Exception as error:
        raise EvaluationFailed(f"the CIF cannot be read: {one_line(error)}") from error
    structure: Structure = structures[0]
    if not structure.is_ordered:
        raise EvaluationFailed("the CIF has partly occupied sites; only ordered crystals are taken")
    return structure


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return `ErrorType: message` on one line, cut at `limit` characters."""
    text = " ".join(str(error).split())
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
