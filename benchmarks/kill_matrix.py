"""Kill server, worker and engine again and again: is anything lost, is anything there twice?

    python benchmarks/kill_matrix.py                         # 500 kills: SQLite, then PostgreSQL
    python benchmarks/kill_matrix.py --kills 50 --database sqlite

A server with its engine runs, and workers in processes of their own lease trials, evaluate, write
what they found to a file of theirs, and report. Each is killed with SIGKILL at random instants, and
at named points: the server before the commit of a lease or a report, and after the commit before
the answer; the worker in the midst of an evaluation, before its report is sent, and after it was
sent before the answer came; the engine in the midst of a fit, and before and after the commit of a
proposal. One of five requests is delivered twice, late, or out of order.

Lost: a report that was answered with 200 and is not in the store, or one that a worker had written
down and sent until it was answered, and neither stands nor was refused for its lease. Double: a
trial with two completions, a report with two observations, a token that was given twice. Recovery:
from a kill to the next report that is accepted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import httpx
import psutil
from service_server import Server, add, begin, database
from sqlalchemy import func, select

from campaigns.store import Store
from campaigns.store.models import Event, Observation, Trial

RESULTS = Path(__file__).parent / "results" / "kill_matrix.json"
HERE = Path(__file__).parent
TTL = "3 s"
SEGMENT = 25
"""Kills on one database: on a fresh one the engine comes to its points sooner."""

# Where a process may die; `campaigns.service.faults` and this file's worker have the places.
SERVER = ("lease:before-commit", "lease:after-commit", "result:before-commit",
          "result:after-commit")  # fmt: skip
ENGINE = ("engine:fitting", "engine:before-commit", "engine:after-commit")
WORKER = ("worker:evaluating", "worker:before-report", "worker:after-report")


def work(port: int, key: str, name: str, folder: Path, seed: int) -> None:
    """A worker: lease, evaluate, write down, report; one of five requests goes astray."""
    rng = random.Random(seed)
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}/v1/campaigns/load", timeout=10.0,
        headers={"Authorization": f"Bearer {key}"},
    )  # fmt: skip
    late: list[tuple[str, dict[str, Any], str]] = []

    def send(path: str, body: dict[str, Any], idempotency: str) -> httpx.Response:
        """Send until it is answered, as a client does that survives."""
        while True:
            try:
                return client.post(path, json=body, headers={"Idempotency-Key": idempotency})
            except httpx.HTTPError:
                time.sleep(0.1)

    # what a worker of this name had found before it died
    for file in sorted(folder.glob(f"{name}-*.json")):
        told = json.loads(file.read_text())
        if "answer" not in told:
            answer = send(told["path"], told["body"], told["key"])
            keep(file, told | {"answer": answer.status_code})
    while True:
        answer = send("/leases", {"worker": name, "n": rng.choice([1, 1, 2])}, uuid.uuid4().hex)
        if answer.status_code != 200:
            time.sleep(0.2)
            continue
        leases = answer.json()["leases"]
        if not leases:
            time.sleep(0.1)
        for lease in leases:
            die("worker:evaluating")
            time.sleep(rng.uniform(0.1, 0.8))
            path = f"/trials/{lease['trial']}/result"
            value = rng.random()
            metrics = {
                "hardness": {"value": value, "unit": "GPa"},
                "cost": {"value": lease["params"]["x"], "unit": "dimensionless"},
            }
            told = {"path": path, "body": {"token": lease["token"], "metrics": metrics},
                    "key": uuid.uuid4().hex, "trial": lease["trial"], "value": value}  # fmt: skip
            file = folder / f"{name}-{lease['trial']}-{lease['token']}.json"
            keep(file, told)
            die("worker:before-report")
            astray = rng.random()
            if astray < 0.05:
                late.append((path, told["body"], told["key"]))  # it overtakes others
                rng.shuffle(late)
            answer = send(path, told["body"], told["key"])
            die("worker:after-report")
            keep(file, told | {"answer": answer.status_code})
            if astray > 0.9:  # twice, with its key or without
                again = told["key"] if astray > 0.95 else uuid.uuid4().hex
                assert send(path, told["body"], again).status_code in (200, 409)
            if len(late) > 3 or (late and rng.random() < 0.1):
                assert send(*late.pop()).status_code in (200, 409)
            if astray > 0.98:
                fail = {"token": lease["token"], "kind": "failed", "reason": "out of order"}
                send(f"/trials/{lease['trial']}/fail", fail, uuid.uuid4().hex)
            elif (
                0.05 < astray < 0.08
            ):  # it falls asleep, and comes back when its lease is another's
                (sleepy,) = leases[-1:]
                old = {"token": max(1, sleepy["token"] - 1), "metrics": metrics}
                send(f"/trials/{sleepy['trial']}/result", old, uuid.uuid4().hex)


def keep(file: Path, told: dict[str, Any]) -> None:
    """Write a file whole."""
    half = file.with_suffix(".half")
    half.write_text(json.dumps(told))
    half.replace(file)


def die(point: str) -> None:
    """Die here, if that is asked for."""
    from campaigns.service.faults import reached

    reached(point)


class Matrix:
    """Processes, and the hand that kills them."""

    def __init__(self, url: str, folder: Path, workers: int, seed: int) -> None:
        self.url, self.folder, self.rng = url, folder, random.Random(seed)
        self.faults = folder / "faults"
        self.faults.mkdir()
        os.environ["MATLOOP_FAULTS"] = str(self.faults)
        self.key = begin(url, TTL)
        add(url, 300)
        self.server = Server(url, folder / "log")
        self.server.start()
        self.names = [f"w{n}" for n in range(workers)]
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.kills: Counter[str] = Counter()
        self.lives = 0
        self.store = Store(url)
        for name in self.names:
            self.start_worker(name)

    def start_worker(self, name: str) -> None:
        self.lives += 1
        with (self.folder / "log").open("ab") as log:
            self.workers[name] = subprocess.Popen(
                [sys.executable, __file__, "--work", str(self.server.port), self.key, name,
                 str(self.folder), str(self.lives)],
                stdout=log, stderr=log,
            )  # fmt: skip

    def accepted(self) -> int:
        with self.store.read() as session:
            return (
                session.scalar(
                    select(func.count()).where(Event.kind.in_(("trial_completed", "trial_failed")))
                )
                or 0
            )

    def tend(self) -> None:
        """Start again what died, and see that trials wait."""
        with self.store.read() as session:
            waiting = session.scalar(select(func.count()).where(Trial.status == "candidate")) or 0
        if waiting < 100:
            add(self.url, 300)
        if self.server.process is not None and self.server.process.poll() is not None:
            self.server.start()
        for name, process in list(self.workers.items()):
            if process.poll() is not None:
                if process.returncode != -signal.SIGKILL:
                    raise RuntimeError(
                        f"{name} failed:\n" + (self.folder / "log").read_text()[-3000:]
                    )
                self.start_worker(name)

    def kill(self) -> None:
        """One kill, at random or at a named point."""
        point = self.rng.choice(["server", "worker", "engine", *SERVER, *WORKER, *ENGINE])
        if point == "server":
            self.server.kill()
        elif point == "worker":
            self.workers[self.rng.choice(self.names)].kill()
        elif point == "engine":
            pid = self.server.engine_pid()
            if pid is None:
                return
            try:
                psutil.Process(pid).kill()
            except psutil.NoSuchProcess:
                return
        else:
            mark = self.faults / point
            mark.touch()
            if point in ENGINE:
                self.ask()
            until = time.monotonic() + (60 if point in ENGINE else 15)
            while mark.exists() and time.monotonic() < until:
                self.tend()
                time.sleep(0.02)
            if mark.exists():
                mark.unlink()  # nobody came there in time, as where the engine just died
                return
        self.kills[point] += 1

    def ask(self) -> None:
        """Ask for a proposal, so that the engine comes to its points."""
        try:
            httpx.post(
                f"http://127.0.0.1:{self.server.port}/v1/campaigns/load/proposals", json={"n": 2},
                headers={"Authorization": f"Bearer {self.key}"}, timeout=5.0,
            )  # fmt: skip
        except httpx.HTTPError as error:
            print("asked in vain:", error, flush=True)

    def run(self, kills: int) -> dict[str, Any]:
        recovery: list[float] = []
        begun = time.monotonic()
        while sum(self.kills.values()) < kills:
            time.sleep(self.rng.uniform(0.05, 0.5))
            self.tend()
            before = sum(self.kills.values())
            self.kill()
            if sum(self.kills.values()) == before:
                continue
            count, then = self.accepted(), time.monotonic()
            while self.accepted() <= count:
                self.tend()
                time.sleep(0.02)
                if time.monotonic() - then > 120:
                    raise RuntimeError("no recovery:\n" + (self.folder / "log").read_text()[-3000:])
            recovery.append(time.monotonic() - then)
            if before % 5 == 0:
                print(before, f"{time.monotonic() - begun:.0f} s, slowest {max(recovery):.1f} s",
                      flush=True)  # fmt: skip
        for process in self.workers.values():
            process.kill()
            process.wait()
        # what dead workers had found is sent by others of their names, which then end
        self.drain()
        return self.judge() | {
            "kills": sum(self.kills.values()), "by_point": dict(sorted(self.kills.items())),
            "longest_recovery_s": round(max(recovery), 1),
            "median_recovery_s": round(sorted(recovery)[len(recovery) // 2], 2),
            "seconds": round(time.monotonic() - begun),
        }  # fmt: skip

    def drain(self) -> None:
        if self.server.process is not None and self.server.process.poll() is not None:
            self.server.start()
        headers = {"Authorization": f"Bearer {self.key}"}
        base = f"http://127.0.0.1:{self.server.port}/v1/campaigns/load"
        with httpx.Client(base_url=base, headers=headers, timeout=30.0) as client:
            for file in sorted(self.folder.glob("w*.json")):
                told = json.loads(file.read_text())
                if "answer" not in told:
                    sent = {"Idempotency-Key": told["key"]}
                    answer = client.post(told["path"], json=told["body"], headers=sent)
                    keep(file, told | {"answer": answer.status_code})
        self.server.stop()

    def judge(self) -> dict[str, Any]:
        """What was lost, and what is there twice."""
        with self.store.read() as session:
            trials = {t.index: t for t in session.scalars(select(Trial))}
            events = session.scalars(select(Event).order_by(Event.id)).all()
            values: dict[int, list[float]] = {}
            for index, mean in session.execute(
                select(Trial.index, Observation.mean)
                .join(Trial, Trial.id == Observation.trial_id)
                .where(Observation.metric == "hardness")
            ):
                values.setdefault(index, []).append(mean)
        told = [json.loads(file.read_text()) for file in self.folder.glob("w*.json")]
        refused = {
            (e.payload["trial"], e.payload["report"]["metrics"]["hardness"]["value"])
            for e in events
            if e.kind == "report_refused" and "metrics" in e.payload["report"]
        }
        lost = [
            t for t in told
            if (t["answer"] == 200 and t["value"] not in values.get(t["trial"], []))
            or (t["answer"] == 409 and (t["trial"], t["value"]) not in refused
                and t["value"] not in values.get(t["trial"], []))
            or t["answer"] not in (200, 409)
        ]  # fmt: skip
        ends = Counter(e.payload["trial"] for e in events if e.kind == "trial_completed")
        given = Counter(
            (e.payload["trial"], e.payload["token"]) for e in events if e.kind == "trial_started"
        )
        double = [n for n in (*ends.values(), *given.values()) if n > 1]
        double += [len(v) for v in values.values() if len(v) > 1]
        indices = sorted(trials)
        assert indices == list(range(len(indices))), "trials are not numbered in a row"
        completed = sum(t.status == "completed" for t in trials.values())
        assert completed == len(ends), (completed, len(ends))
        return {
            "lost": len(lost), "double": len(double), "reports": len(told),
            "accepted": sum(t["answer"] == 200 for t in told), "refused": len(refused),
            "trials": len(trials), "completed": completed,
        }  # fmt: skip


def segment(kind: str, kills: int, workers: int, seed: int) -> dict[str, Any]:
    """So many kills on a fresh database, and the judgement."""
    with database(kind) as url, tempfile.TemporaryDirectory() as folder:
        matrix = Matrix(url, Path(folder), workers, seed)
        try:
            return matrix.run(kills) | {"seed": seed}
        finally:
            matrix.server.stop()
            for process in matrix.workers.values():
                process.kill()
            matrix.store.close()


def total(segments: list[dict[str, Any]]) -> dict[str, Any]:
    """All segments together."""
    points: Counter[str] = Counter()
    for one in segments:
        points.update(one["by_point"])
    counted = ("kills", "lost", "double", "reports", "accepted", "refused", "completed", "seconds")
    return {
        **{name: sum(one[name] for one in segments) for name in counted},
        "by_point": dict(sorted(points.items())),
        "longest_recovery_s": max(one["longest_recovery_s"] for one in segments),
        "median_recovery_s": statistics.median(one["median_recovery_s"] for one in segments),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500, help="on all databases together")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="keep no results")
    given = parser.parse_args()
    kinds = given.database or ["sqlite", "postgresql"]
    for kind in kinds:
        segments: list[dict[str, Any]] = []
        left = -(-given.kills // len(kinds))
        while left > 0:
            segments.append(
                segment(kind, min(left, SEGMENT), given.workers, given.seed + len(segments))
            )
            left -= SEGMENT
            told = total(segments)
            print(kind, json.dumps(told), flush=True)
            if told["lost"] or told["double"]:
                raise SystemExit(f"{kind}: something was lost, or is there twice")
            if not given.dry:
                results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
                RESULTS.write_text(json.dumps(results | {kind: told}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        port, key, name, folder, seed = sys.argv[2:]
        work(int(port), key, name, Path(folder), int(seed))
    main()
