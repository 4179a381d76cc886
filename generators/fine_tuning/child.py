"""The process that fine-tunes: `python -m generators.fine_tuning.child FOLDER`.

Started by `generators.fine_tuning.process.run_job` only. It reads `job.json` in its folder, tells
how far it is in `progress.json`, and ends by writing `result.json`, each by a rename. Killed and
started again, it goes on from its checkpoint. It dies with the process that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from generators.files import replace_whole
from generators.fine_tuning.recipe import Collapsed, Examined, FineTuneError, Recipe, Runtime

JOB, PROGRESS, RESULT = "job.json", "progress.json", "result.json"
_PR_SET_PDEATHSIG = 1
_TELL_SECONDS = 1.0


def main(folder: Path) -> int:
    """Do the job of a folder; the exit status."""
    try:
        result = _run(folder, json.loads((folder / JOB).read_text("utf-8")))
    except Collapsed as error:
        figures = {"before": error.before, "after": error.after}
        result = {"kind": "collapsed", "message": str(error), **figures}
    except FineTuneError as error:
        result = {"kind": "failed", "message": str(error), "final": True}
    except Exception as error:  # a defect, or the disk: the log has the traceback
        traceback.print_exc()
        told = " ".join(str(error).split()) or type(error).__name__
        result = {"kind": "failed", "message": told}
    _write(folder / RESULT, result)
    return 0


def _run(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import torch

    from generators import load_generator
    from generators.crystals.generator import CrystalGenerator

    runtime = Runtime(**job["runtime"])
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    generator = load_generator(job["generator"])
    if not isinstance(generator, CrystalGenerator):
        raise FineTuneError(f"{generator.name} is of a kind that cannot be fine-tuned")
    if generator.version != job["version"]:
        raise FineTuneError(
            f"{job['generator']} is version {generator.version} now, not {job['version']}"
        )
    values = {
        name: np.array([np.nan if v is None else v for v in column], dtype=float)
        for name, column in job["values"].items()
    }
    failed = np.array(job["failed"], dtype=bool)
    examined = Examined([generator.from_json(d) for d in job["designs"]], values, failed)
    recipe = Recipe.from_dict(job["recipe"])
    told = 0.0

    def on_step(step: int, loss: float) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_SECONDS or step == recipe.steps:
            _write(folder / PROGRESS, {"step": step, "steps": recipe.steps, "loss": loss})
            told = time.monotonic()

    out = Path(job["out"])
    if out.with_suffix(".json").exists():  # killed between this and the result
        new = CrystalGenerator.load(out)
        if new.parent != generator.version:
            raise FineTuneError(f"{out} is there already, and is another's: name another file")
    else:
        new = generator.fine_tune(examined, recipe, out, runtime, folder, on_step)
    return {"kind": "tuned", "version": new.version, "out": str(out), **_figures(new.card)}


def _figures(card: dict[str, Any]) -> dict[str, Any]:
    told = card["fine_tuning"]
    return {key: told[key] for key in ("before", "after", "minutes", "learned_from")}


def _write(path: Path, data: dict[str, Any]) -> None:
    replace_whole(path, (json.dumps(data) + "\n").encode())


def _die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, also by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    _die_with_parent()
    # The parent tells by it that it was alive; gone since, nobody waits for the result.
    if os.environ.get("MATLOOP_TUNED_BY") != str(os.getppid()) and "LOCAL_RANK" not in os.environ:
        sys.exit(1)
    sys.exit(main(Path(sys.argv[1])))
