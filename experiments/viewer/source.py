"""Where a watched agent comes from: a run directory, one of its checkpoints, or a folder with an agent to give away."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from agents.agent import Agent
from experiments.build import build_agent
from experiments.checkpoint import read_checkpoint
from experiments.config import Experiment
from experiments.files import RunError
from experiments.records import is_count, is_weights, kept_weights
from experiments.run import Run
from experiments.scoring import load_weights

WEIGHTS = "tensors.safetensors"
BEST = "best"  # instead of a checkpoint: the weights that scored best in training


@dataclass(frozen=True)
class Source:
    """An experiment and the checkpoints there are of it.

    Fields: `checkpoints`, folders by name, the best weights before all others, these oldest first; `chosen`, the name
    of the one to begin with; `run`, where what is played is kept, None for an agent outside a run.
    """

    experiment: Experiment
    checkpoints: dict[str, Path]
    chosen: str
    run: Run | None

    def load(self, name: str, shape: tuple[int, ...], num_actions: int, device: torch.device) -> Agent:
        """The agent as of a checkpoint, for observations of `shape`; it plays as in evaluation, without noise.

        Raises:
            RunError: there is none of that name, it is damaged, or it does not fit the experiment.
        """
        if name not in self.checkpoints:
            raise RunError(f"there is no checkpoint {name!r}; there are {', '.join(self.checkpoints) or 'none yet'}")
        agent = build_agent(self.experiment, shape, num_actions, device)
        try:
            if is_weights(self.checkpoints[name]):
                load_weights(self.checkpoints[name], agent)
            else:
                agent.load_tensors(read_checkpoint(self.checkpoints[name])[0])
        except RunError:
            raise
        except ValueError as error:
            raise RunError(
                f"checkpoint {self.checkpoints[name]} is of another game or agent than its config.json says: {error}"
            ) from None
        agent.acting.eval()
        return agent

    def renewed(self, keep: str) -> "Source":
        """The same with the checkpoints that there are by now, and the one to keep, which may be gone."""
        if self.run is None or keep not in self.checkpoints:
            return self
        found = by_name(self.run) | {keep: self.checkpoints[keep]}
        steps = lambda item: -1 if item[0] == BEST else int(item[0])
        return replace(self, checkpoints=dict(sorted(found.items(), key=steps)))


def by_name(run: Run) -> dict[str, Path]:
    """A run's checkpoints and weights that it kept by their agent steps, oldest first; before them the best weights."""
    best = {BEST: run.path / BEST} if is_weights(run.path / BEST) else {}
    found = {int(path.name): path for path in (*kept_weights(run.path), *run.checkpoints())}
    return best | {str(steps): found[steps] for steps in sorted(found)}


def find_source(path: Path, checkpoint: str = "", agent: bool = True) -> Source:
    """What there is to watch at a path.

    Args:
        path: a run directory; a checkpoint's folder or a file in it, inside its run or copied elsewhere together
            with the run's config.json.
        checkpoint: agent steps, as in its name, or best; empty: the newest, or the one at the path.
        agent: whether one is needed; a run's recorded episodes can be shown before there is a checkpoint.

    Raises:
        RunError: there is nothing to watch.
    """
    folder = path.parent if path.is_file() else path
    if not (folder / "checkpoint.json").exists() and not is_weights(folder):
        if path.is_file():
            raise RunError(f"{path} is no checkpoint: those are folders with checkpoint.json and {WEIGHTS}")
        run = Run.open(folder)
        if not agent:
            return Source(run.experiment, {}, "", run)
        return _source(run.experiment, by_name(run), checkpoint, f"{folder} has no checkpoint", run)
    whole = folder.resolve()  # which may be . or a link
    run_path = whole.parent if whole.name == BEST else whole.parent.parent
    name = str(int(whole.name)) if is_count(whole.name) else whole.name
    if (folder / "config.json").exists():
        return _source(Run.open(folder).experiment, {name: folder}, checkpoint, f"{folder} is another one", None)
    if not (run_path / "config.json").exists():
        raise RunError(f"{folder} has no config.json: copy that of its run into it")
    run = Run.open(run_path)
    return _source(run.experiment, by_name(run), checkpoint or name, f"{run_path} has no checkpoint", run)


def _source(experiment: Experiment, found: dict[str, Path], wanted: str, else_say: str, run: Run | None) -> Source:
    wanted = str(int(wanted)) if is_count(wanted) else wanted
    if not found:
        raise RunError(f"{else_say} yet; it needs a little more training")
    if wanted and wanted not in found:
        raise RunError(f"--checkpoint {wanted}: {else_say} of that name; there are {', '.join(found)}")
    return Source(experiment, found, wanted or newest_whole(found), run)


def newest_whole(found: dict[str, Path]) -> str:
    """The name of the newest checkpoint that can be read. Says aloud which damaged one it passed over.

    Raises:
        RunError: none can.
    """
    *others, oldest = [name for name in reversed(found) if not is_weights(found[name])] or [*found][-1:]
    for name in others:
        try:
            read_checkpoint(found[name])
            return name
        except RunError as error:
            print(f"{error}; trying the one before", file=sys.stderr)
    if not is_weights(found[oldest]):
        read_checkpoint(found[oldest])
    return oldest
