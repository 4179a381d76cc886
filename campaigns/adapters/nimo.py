"""A campaign in the place of NIMO's `selection`, with NIMO's files and robots as they are.

    robot = NimoFolder(Client(URL, key), "light-stiff", "work")
    robot.propose(1)                                    # instead of nimo.selection
    nimo.preparation_input(machine="STAN", input_file=robot.proposals, input_folder="work")
    nimo.analysis_output(machine="STAN", input_file=robot.proposals, output_file=robot.candidates,
                         num_objectives=robot.num_objectives, output_folder="work")
    robot.take_in()                                     # reports what the robot measured

In NIMO a row's number is its name, and a cell that is no number means "not tried yet", so that what
failed is proposed again. Here each row of `candidates.csv` belongs to one trial for good (the file
`trials.json` says to which), and a cell that is no number fails it.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from campaigns.adapters.base import Bench
from campaigns.client import Client
from campaigns.csv_cells import neutral
from campaigns.errors import MatloopError
from campaigns.leases import Lease
from campaigns.units import parse_number
from campaigns.write_file import make_folder, write_whole


class NimoFolder:
    """A folder in NIMO's formats.

    Args:
        client: The server.
        campaign: The campaign's name.
        folder: Where the files are; made where needed. One that a killed program left goes on.
        patience: Seconds to wait for trials, where none is ready yet.

    Attributes:
        proposals: NIMO's `proposals.csv`: the row's number, then the parameters.
        candidates: NIMO's `candidates.csv`: the parameters, then the objectives, empty at first.
    """

    def __init__(
        self, client: Client, campaign: str, folder: str | Path, patience: float = 600.0
    ) -> None:
        folder = make_folder(folder)
        self.bench = Bench(client, campaign, "nimo", patience)
        self.proposals, self.candidates = folder / "proposals.csv", folder / "candidates.csv"
        self._book = folder / "trials.json"
        self._leases = [Lease.from_json(x) for x in self._kept()["leases"]]
        self._answered: list[int] = self._kept()["answered"]
        for row, lease in enumerate(self._leases):
            if row not in self._answered:
                self.bench.keeper.hold(lease)

    @property
    def num_objectives(self) -> int:
        """How many objectives there are: NIMO's functions want to be told."""
        return len(self.bench.units())

    def propose(self, n: int = 1) -> Path:
        """Take n trials, and write `proposals.csv` as `nimo.selection` does.

        Returns:
            The file.

        Raises:
            MatloopError: None was ready in time, or a file cannot be written.
        """
        new = self.bench.take(n)
        first = len(self._leases)
        self._leases += new
        self._save()
        rows = self._rows()
        names = list(self._leases[0].params)
        rows += [[*_values(lease, names), *("" for _ in lease.units)] for lease in new]
        self._write(self.candidates, [[*names, *new[0].units], *rows])
        told = [[first + i, *_values(lease, names)] for i, lease in enumerate(new)]
        self._write(self.proposals, [["actions", *names], *told])
        return self.proposals

    def take_in(self) -> dict[str, list[int]]:
        """Report the rows that were filled in since.

        Returns:
            The trials that are `completed` and `failed` by it.

        Raises:
            MatloopError: The file is not the one that was written, or the server refused a result.
        """
        done: dict[str, list[int]] = {"completed": [], "failed": []}
        for row, cells in enumerate(self._rows()):
            lease = self._leases[row]
            values = dict(zip(lease.units, cells[-len(lease.units) :], strict=True))
            if row in self._answered or not any(cell.strip() for cell in values.values()):
                continue
            measured, wrong = {}, ""
            for metric, cell in values.items():
                try:
                    measured[metric] = parse_number(cell)
                except ValueError:
                    wrong = wrong or f"{metric} is {cell.strip()[:50]!r}"
            if wrong:
                self.bench.fail(lease.trial, wrong)
            else:
                self.bench.report(lease.trial, measured)
            done["failed" if wrong else "completed"].append(lease.trial)
            self._answered.append(row)
            self._save()
        return done

    def close(self) -> None:
        """End the heartbeats; what is under way stays with the robot until its leases run out."""
        self.bench.keeper.close()

    def _rows(self) -> list[list[str]]:
        if not self.candidates.exists():
            return []
        with self.candidates.open(newline="", encoding="utf-8") as file:
            _, *rows = csv.reader(file)
        if len(rows) > len(self._leases):
            raise MatloopError(
                f"it has {len(rows)} rows, and {len(self._leases)} were written",
                where=str(self.candidates),
                unchanged="the campaign",
                hint="rows are added by `propose` only",
            )
        return rows

    def _kept(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"leases": [], "answered": []}
        return json.loads(self._book.read_text("utf-8")) if self._book.exists() else empty

    def _save(self) -> None:
        kept = {"leases": [x.to_json() for x in self._leases], "answered": self._answered}
        write_whole(self._book, json.dumps(kept))

    def _write(self, path: Path, rows: list[list[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[neutral(c) for c in row] for row in rows])
        write_whole(path, text.getvalue())


def _values(lease: Lease, names: list[str]) -> list[Any]:
    return [lease.params.get(name, 0.0) for name in names]
