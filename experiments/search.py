"""A search for settings: Optuna draws them, every trial is a few runs, and hopeless trials are stopped."""

import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from envs.extras import how_to_install
from envs.scores import human_normalised
from experiments.files import RunError, read_json
from experiments.matrix import Cell, Spec, cell
from experiments.records import evaluations, in_training

STARTUP = 5  # trials that nothing is compared with, and none of which is stopped


def import_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        ValueError: it is not installed; with the command that does.
    """
    try:
        import optuna
    except ImportError:
        raise ValueError("--search needs Optuna: " + how_to_install("search")) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def check_games(games: list[str]) -> None:
    """Refuses games whose scores have no common scale, so that the mean over them would mean nothing.

    Raises:
        ValueError: there are several, and some without a human score; names these.
    """
    raw = [game for game in games if human_normalised(game, 0.0) is None]
    if raw and len(games) > 1:
        raise ValueError(
            f"a search over several games compares human-normalised scores, and {', '.join(raw)} have none:"
            f" search one game at a time, such as --games {raw[0]}"
        )


def check_search(folder: Path, spec: Spec, objective: str) -> None:
    """Refuses to rank trials of two searches together.

    Raises:
        RunError: the search in this folder was begun otherwise.
    """
    if not (folder / "suite.json").exists():
        return
    begun = read_json(folder / "suite.json")
    now = json.loads(json.dumps(dataclasses.asdict(spec) | {"objective": objective}))
    if unlike := [name for name, value in now.items() if name in begun and begun[name] != value]:
        raise RunError(f"the search in {folder} was begun with other {' and '.join(unlike)}; choose another --name")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other searches away from a suite's folder: each would take the other's open trials for its own.

    Raises:
        RunError: another process searches there.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process searches in {folder}; wait for it, or choose another --name") from None
        except OSError as error:
            raise RunError(
                f"{folder} cannot be locked ({error.strerror}); put --runs on a disk that locks files"
            ) from None
        yield


def cut_torn(path: Path) -> None:
    """Cuts off what a full disk left of a line, which Optuna would write the next one behind."""
    if path.exists() and (written := path.read_bytes()) and not written.endswith(b"\n"):
        os.truncate(path, written.rfind(b"\n") + 1)


def extremes(spec: Spec) -> list[Cell]:
    """Runs with each end and each choice of everything that a search draws: what can be tried before it begins."""
    ends = {key: space.get("choices") or [space["low"], space["high"]] for key, space in spec.search.items()}
    first = {key: values[0] for key, values in ends.items()}
    drawn = [first | {key: value} for key, values in ends.items() for value in values]
    return [
        cell(spec, agent, game, spec.seeds[0], settings, f"try{i}-")
        for i, settings in enumerate(drawn) for agent in spec.agents for game in spec.games
    ]  # fmt: skip


class Trials:
    """Work that is drawn while it goes on: `count` trials, each on every game and seed of a suite.

    A trial's value is the mean over its runs of an evaluation's figure, human-normalised if there are several games.
    It is reported whenever all of its runs have been evaluated once more; a trial below the median of those
    before it at that point is stopped (Golovin et al. 2017, sec. 3.2.2).

    Args:
        folder: of the suite; the study is `study.journal` in it, and goes on if it is there.
        figure: of an evaluation: mean or median.
        seed: of what is drawn.
    """

    def __init__(
        self, spec: Spec, folder: Path, count: int, figure: str, sampler: Literal["tpe", "random"], seed: int = 0
    ):
        optuna = import_optuna()
        from optuna.storages.journal import JournalFileBackend

        cut_torn(folder / "study.journal")
        self.optuna, self.spec, self.folder, self.count, self.figure = optuna, spec, folder, count, figure
        chosen = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[sampler]
        self.study = optuna.create_study(
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal"))),
            study_name=folder.name, load_if_exists=True, direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        )  # fmt: skip
        self.study.sampler = chosen(seed=seed + len(self.study.trials))  # a continued search draws other settings
        self.open: dict[int, tuple[Any, list[Cell]]] = {}  # trial and its runs, by number
        self.ready: list[Cell] = []
        self.states: dict[str, str] = {}
        self.pruned: set[str] = set()
        self.looked: dict[int, list[list[Path]]] = {}  # a trial's evaluations when they were read last, by its number
        for known in self.study.trials:
            if known.state == optuna.trial.TrialState.RUNNING:
                self._open(optuna.trial.Trial(self.study, known._trial_id))

    def draw(self, trial: Any) -> dict[str, Any]:
        """A trial's settings; what it has drawn before stays."""
        found = {}
        for key, space in self.spec.search.items():
            if "choices" in space:
                found[key] = trial.suggest_categorical(key, space["choices"])
            elif isinstance(space["low"], int) and isinstance(space["high"], int):
                found[key] = trial.suggest_int(key, space["low"], space["high"], log=space.get("log", False))
            else:
                found[key] = trial.suggest_float(key, space["low"], space["high"], log=space.get("log", False))
        return found

    def _open(self, trial: Any) -> None:
        drawn, prefix = self.draw(trial), f"t{trial.number:04d}-"
        runs = [
            cell(self.spec, agent, game, seed, drawn, prefix)
            for agent in self.spec.agents for game in self.spec.games for seed in self.spec.seeds
        ]  # fmt: skip
        self.open[trial.number] = trial, runs
        self.ready += runs

    def next(self) -> Cell | None:
        if not self.ready and self.left:
            self._open(self.study.ask())
        return self.ready.pop(0) if self.ready else None

    @property
    def left(self) -> int:
        return len(self.ready) + max(0, self.count - len(self.study.trials))

    def ended(self, cell: Cell, state: str) -> None:
        self.states[cell.name] = state
        for number, (trial, runs) in list(self.open.items()):
            states = [self.states.get(run.name) for run in runs]
            if cell not in runs or number not in self.open:
                continue
            if state == "failed":
                self._close(number, self.optuna.trial.TrialState.FAIL)
            elif all(one == "finished" for one in states):
                self._report(trial, runs)
                self.study.tell(trial, self.values(runs)[-1])
                del self.open[number]

    def _close(self, number: int, state: Any) -> None:
        trial, runs = self.open.pop(number)
        self.study.tell(trial, state=state)
        names = {run.name for run in runs}
        self.pruned |= {name for name in names if self.states.get(name) is None}
        self.ready = [run for run in self.ready if run.name not in names]

    def hopeless(self) -> set[str]:
        for number, (trial, runs) in list(self.open.items()):
            there = [sorted((self.folder / run.name / "evaluations").glob("*.json")) for run in runs]
            if self.looked.get(number) == there:
                continue
            self.looked[number] = there
            if self._report(trial, runs) and trial.should_prune():
                self._close(number, self.optuna.trial.TrialState.PRUNED)
        return self.pruned

    def _report(self, trial: Any, runs: list[Cell]) -> bool:
        """Tells Optuna of evaluations that all runs of a trial have now; returns whether there was any."""
        told = self.study._storage.get_trial(trial._trial_id).intermediate_values
        new = [(count, value) for count, value in enumerate(self.values(runs), 1) if count not in told]
        for count, value in new:  # counted, for Optuna compares what has the same number: frames differ by a few
            trial.report(value, count)
        return bool(new)

    def values(self, runs: list[Cell]) -> list[float]:
        """Of the first evaluation that all runs of a trial have had, of the second, and so on."""
        curves = []
        for run in runs:
            found = in_training(evaluations(self.folder / run.name))
            curves.append([self._value(run.game, result) for result in found])
        return [float(np.mean(point)) for point in zip(*curves, strict=False)]

    def _value(self, game: str, result: dict[str, Any]) -> float:
        score = float(result[self.figure])
        if len(self.spec.games) == 1:
            return score
        normalised = human_normalised(game, score)
        assert normalised is not None, game  # by check_games
        return normalised


def best_trials(trials: Trials, say: Callable[[str], None], shown: int = 5) -> None:
    """Prints what a search found."""
    states = [trial.state.name.lower() for trial in trials.study.trials]
    say(f"{len(states)} trials: " + ", ".join(f"{states.count(name)} {name}" for name in sorted(set(states))))
    finished = [trial for trial in trials.study.trials if trial.state.name == "COMPLETE"]
    for trial in sorted(finished, key=lambda trial: -trial.value)[:shown]:
        settings = "  ".join(f"--{key} {value:.4g}" if isinstance(value, float) else f"--{key} {value}"
                             for key, value in trial.params.items())  # fmt: skip
        say(f"  t{trial.number:04d}  {trial.value:.4g}  {settings}")
    if "fail" in states:
        say("Failed trials are not tried again: put right what failed, and begin anew with another --name.")
    if len(finished) > 1:
        say("The best of many flatter themselves: train them again with other seeds before you quote a score.")
