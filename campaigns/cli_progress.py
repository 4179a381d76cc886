"""What a person sees while a campaign runs: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from campaigns.cli_output import Output
from campaigns.cli_tables import best, counted, number, plural, table, titled
from campaigns.statuses import FAILED
from campaigns.tuning_words import kept, tuned

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from campaigns.campaign import Campaign, EventListener

_LINES_BESIDE_THE_TABLE = 9


@contextmanager
def watching(campaign: Campaign, out: Output, budget: int | None) -> Iterator[EventListener]:
    """Show a run while it goes on.

    Args:
        campaign: What runs.
        out: The command's voice.
        budget: Trials in all; None: as the campaign's budget grants.

    Yields:
        The listener for `Campaign.run`.
    """
    progress = Progress(campaign, budget)
    if not out.narration.isatty():

        def tell(event: dict[str, Any]) -> None:
            for line in progress.take(event):
                out.note(f"{progress.elapsed:>7}  {line}")

        yield tell
        return
    from rich.live import Live

    with Live(
        progress, console=out.console(), refresh_per_second=4, transient=True,
        redirect_stdout=False, redirect_stderr=False,
    ):  # fmt: skip

        def listen(event: dict[str, Any]) -> None:
            progress.take(event)  # its lines are in the table

        yield listen


@dataclass
class _Row:
    name: str
    status: str
    values: dict[str, float] = field(default_factory=dict)
    told: str = ""
    since: float | None = None


class Progress:
    """What is known of a run from its events; a rich renderable, and lines of text.

    Args:
        campaign: What runs; asked for its state when a trial ends.
        budget: Trials in all; None: as the campaign's budget grants.
    """

    def __init__(self, campaign: Campaign, budget: int | None) -> None:
        self._campaign, self._budget = campaign, campaign.granted(budget)["trials"]
        self._units = campaign.spec.metric_units()
        self._began = time.monotonic()
        self._doing = "starting"
        self._best = ""
        self._rows: dict[int, _Row] = {}
        for index, trial in campaign.trials().iterrows():
            values = {m: float(trial[m]) for m in self._units}
            row = _Row(trial["name"], trial["status"], values, trial["failure"] or "")
            self._rows[int(str(index))] = row

    @property
    def elapsed(self) -> str:
        """Time since the run began: `0:42`, `1:02:03`."""
        return _clock(time.monotonic() - self._began)

    def take(self, event: Mapping[str, Any]) -> list[str]:
        """Take in an event; the lines that tell of it."""
        lines = _TELL.get(event["kind"], _tell_nothing)(self, event["payload"])
        if event["kind"] in ("trial_completed", "run_started"):
            status = self._campaign.status(self._budget)
            now = best(status, self._campaign.spec)
            if event["kind"] == "run_started":
                self._budget = event["payload"]["budget"]
                if 0 < status["counted"] < self._budget:
                    lines.append(f"goes on with {counted(status)}")
            elif now and now != self._best:
                lines.append(f"  best so far: {now}")
            self._best = now
        return lines

    def _row(self, trial: int) -> _Row:
        if trial not in self._rows:
            known = self._campaign.trial(trial)
            self._rows[trial] = _Row(known["name"] or "", known["status"])
        return self._rows[trial]

    # Each tells of one kind of event.

    def _run_started(self, payload: Mapping[str, Any]) -> list[str]:
        taken, again = len(payload["taken_in"]), len(payload["again"])
        lines = []
        if taken:
            lines.append(f"took in {plural(taken, 'trial')} that a former run had finished")
        if again:
            lines.append(f"{plural(again, 'trial')} of a former run will be made again")
        return lines

    def _loading(self, payload: Mapping[str, Any]) -> list[str]:
        self._doing = f"loading {payload['evaluator']}"
        return [self._doing]

    def _proposing(self, payload: Mapping[str, Any]) -> list[str]:
        self._doing = f"proposing {plural(payload['n'], 'trial')}"
        return [self._doing]

    def _tuning(self, payload: Mapping[str, Any]) -> list[str]:
        self._doing = f"fine-tuning the generator of {payload['axis']} ({payload['method']})"
        return [self._doing]

    def _tuning_step(self, payload: Mapping[str, Any]) -> list[str]:
        self._doing = f"fine-tuning the generator: step {payload['step']} of {payload['steps']}"
        return []

    def _tuned(self, payload: Mapping[str, Any]) -> list[str]:
        self._doing = ""
        return [tuned(payload)]

    def _kept(self, payload: Mapping[str, Any]) -> list[str]:
        self._doing = ""
        return [kept(payload)]

    def _proposed(self, payload: Mapping[str, Any]) -> list[str]:
        self._doing = ""
        for trial in payload["trials"]:
            self._row(trial)
        told = f"proposed {_numbers(payload['trials'])} by {', '.join(payload['methods'])}"
        return [told, *(f"  {note}" for note in payload["notes"])]

    def _started(self, payload: Mapping[str, Any]) -> list[str]:
        self._doing = ""
        row = self._row(payload["trial"])
        row.status, row.since = "running", time.monotonic()
        again = f", attempt {payload['attempt']}" if payload["attempt"] > 1 else ""
        return [f"trial {payload['trial']} started: {row.name}{again}"]

    def _completed(self, payload: Mapping[str, Any]) -> list[str]:
        row = self._row(payload["trial"])
        row.status, row.since = "completed", None
        row.values = {m: told["mean"] for m, told in payload["measurements"].items()}
        values = ", ".join(
            f"{m} {number(told['mean'])} {told['unit']}".removesuffix(" dimensionless")
            for m, told in payload["measurements"].items()
        )
        took = f" in {payload['seconds']:.1f} s" if payload.get("seconds") is not None else ""
        row.told = took.strip()
        return [f"trial {payload['trial']} completed{took}: {values}"]

    def _failed(self, payload: Mapping[str, Any]) -> list[str]:
        row = self._row(payload["trial"])
        how = "infeasible" if payload.get("how") == "infeasible" else "failed"
        row.status, row.since, row.told = how, None, payload["reason"] or ""
        return [f"trial {payload['trial']} {how}: {payload['reason']}"]

    def _reset(self, payload: Mapping[str, Any]) -> list[str]:
        row = self._row(payload["trial"])
        row.status, row.since = "candidate", None
        return []

    def _not_used(self, payload: Mapping[str, Any]) -> list[str]:
        row = self._row(payload["trial"])
        row.status, row.since = payload["status"], None
        return [f"trial {payload['trial']} is {row.status} by hand: its result is not used"]

    def _resumed(self, payload: Mapping[str, Any]) -> list[str]:
        return [f"goes on, though {v['message']}" for v in payload["overruled"]]

    def _not_overruled(self, _payload: Mapping[str, Any]) -> list[str]:
        return ["no stop rule's verdict is open: there is nothing to go on in spite of"]

    def _interrupted(self, payload: Mapping[str, Any]) -> list[str]:
        again = len(payload["again"])
        return [f"interrupted; {plural(again, 'trial')} will be made again"] if again else []

    # On a terminal

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The newest trials, the best, and a bar."""
        yield self._table(max(3, console.height - _LINES_BESIDE_THE_TABLE))
        if self._best:
            yield f"best: {self._best}"
        yield self._bar()

    def _table(self, most: int) -> RenderableType:
        metrics = [titled(m, u) for m, u in self._units.items()]
        title = self._campaign.name
        made = table("trial", "design", "status", *metrics, "", numeric=["trial", *metrics],
                     title=title)  # fmt: skip
        colours = {"running": "cyan", "completed": "green", "abandoned": "dim"}
        colours |= dict.fromkeys(FAILED, "red")
        # A copy, since this is drawn in another thread than events come in.
        for index, row in list(self._rows.items())[-most:]:
            made.add_row(
                str(index), row.name, row.status, *(number(row.values.get(m)) for m in self._units),
                row.told if row.since is None else _clock(time.monotonic() - row.since),
                style=colours.get(row.status),
            )  # fmt: skip
        for column in made.columns:
            column.no_wrap, column.overflow = True, "ellipsis"
        return made

    def _bar(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        now = [row.status for row in list(self._rows.values())]
        running, done = now.count("running"), sum(map(now.count, ("completed", *FAILED)))
        doing = [self._doing] if self._doing else []
        doing += [f"{running} running"] if running else []
        line = Table.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=self._budget, completed=done, width=30),
            f"{done} of {plural(self._budget, 'trial')}", self.elapsed, ", ".join(doing),
        )  # fmt: skip
        return line


def _tell_nothing(_progress: Progress, _payload: Mapping[str, Any]) -> list[str]:
    return []


_TELL = {
    "run_started": Progress._run_started,
    "loading_evaluator": Progress._loading,
    "proposing": Progress._proposing,
    "tuning": Progress._tuning,
    "tuning_step": Progress._tuning_step,
    "generator_tuned": Progress._tuned,
    "generator_kept": Progress._kept,
    "trials_proposed": Progress._proposed,
    "trial_started": Progress._started,
    "trial_completed": Progress._completed,
    "trial_failed": Progress._failed,
    "trial_reset": Progress._reset,
    "result_not_used": Progress._not_used,
    "run_resumed": Progress._resumed,
    "nothing_to_overrule": Progress._not_overruled,
    "run_interrupted": Progress._interrupted,
}


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _numbers(trials: list[int]) -> str:
    """`trial 3`, `trials 3 and 4`, `trials 3 to 6`."""
    if len(trials) == 1:
        return f"trial {trials[0]}"
    return f"trials {trials[0]} {'and' if len(trials) == 2 else 'to'} {trials[-1]}"
