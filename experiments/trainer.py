"""Follows one training: logs it, evaluates it, saves it. What is learned is decided in `loop.train`."""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from agents.sequence import Sequence, tree_leaves
from envs.library import game_of
from envs.played import Played
from envs.recording import Recording
from experiments import snapshot
from experiments.achievements import achievements, names_of
from experiments.build import Setup
from experiments.checkpoint import packed
from experiments.distributed.roster import NobodyPlays
from experiments.distributed.setup import DistributedSetup
from experiments.files import DISK_FULL, DiskFull, Failed, RunError, read_rows, write_atomically, write_json
from experiments.fingerprint import identity
from experiments.interruption import Interruption
from experiments.log import Log, plain
from experiments.loop import Episode, Moment, Scores
from experiments.run import KEPT_CHECKPOINTS, Run
from experiments.scoring import evaluation_seed, keep_recordings, keep_weights, mean_of, score_agent
from experiments.segments import Segments
from experiments.stats import typical
from experiments.sync import headline
from experiments.usage import usage
from experiments.video import could_film

LOG_PERIOD = 10_000  # emulator frames from one row of metrics to the next


class Trainer:
    """One training on its way.

    Args:
        run: open for writing.
        setup: as built for the run, or brought back to where a checkpoint found it.
    """

    def __init__(self, run: Run, setup: Setup | DistributedSetup, log: Log, interruption: Interruption):
        self.run, self.setup, self.log, self.interruption = run, setup, log, interruption
        self.experiment, self.game = run.experiment, game_of(run.experiment.game)
        self.protocol = self.game.protocol(run.experiment.protocol)
        self.scores = Scores(run.experiment.num_envs)
        self.device = setup.games.device
        self.agent_steps, self.metrics = 0, dict[str, Any]()
        self.batch: Sequence | None = None  # the last that was learned from
        self.evaluation: dict[str, Any] | None = None  # the latest
        self.evaluation_due = self.stopped = False  # stopped: saved on purpose before the end
        self.segments = setup.segments((run.path / "replay").absolute())  # a game may change the working directory
        # At 4,700 agent steps a second a tenth of the time went by while rows were written.
        on_gpu = self.device.type == "cuda" and isinstance(self.segments, Segments)
        self.beside = ThreadPoolExecutor(1) if on_gpu else None
        self.writing: Future[Any] | None = None
        self.clock = (time.monotonic(), 0)
        setup.games.say = log.event

    def frames(self) -> int:
        """Emulator frames so far."""
        return self.agent_steps * self.game.frame_skip

    @property
    def finished(self) -> bool:
        """Whether all frames are played, and no evaluation is due."""
        return self.frames() >= self.experiment.frames and not self.evaluation_due

    def train(self, begin: Moment | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Trains from a moment, or from the start, to the end or until asked to stop; then evaluates and saves.

        Args:
            stop: asked after every iteration.

        Raises:
            Diverged: the loss or a parameter is no number any more.
            DiskFull: what it could not write is not only checkpoints.
            RuntimeError: the algorithm or the game failed.
        """
        try:
            self._train(begin, stop)
        except RunError:
            raise
        except ValueError as error:  # no setting is wrong by now: whoever wrote the algorithm wants to see where it was
            raise RuntimeError(f"the training failed after {self.frames():_} frames: {error}") from error
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            saved = self.run.checkpoints()
            raise DiskFull(
                f"the disk is full ({error.strerror});"
                + (f" free some, then: {self.run.resume_command}" if saved else " nothing could be saved")
            ) from None
        finally:
            self.setup.games.close()

    def _train(self, begin: Moment | None, stop: Callable[[], bool]) -> None:
        if self.evaluation_due and self.frames() < self.experiment.frames:
            self.evaluate()
            if self.interruption.signal:
                return  # the checkpoint that it came from says that it is due
        moment = begin
        try:
            for moment in self.setup.moments(self.experiment, begin):
                self.follow(moment)
                if self.interruption.signal or stop():
                    break
        except NobodyPlays as error:
            if moment is None:
                raise
            self.save(moment)
            raise Failed(f"{error}. Saved; once it can: {self.run.resume_command}") from None
        assert moment is not None
        if not self.interruption.signal:
            self.evaluate()
        self.conclude(moment)

    def conclude(self, moment: Moment) -> None:
        """Saves for the last time."""
        self.stopped = not self.finished
        if (self.run.path / "best").is_dir():
            self.log.mirror.checkpoint(self.run.path / "best", "best")
        self.log.mirror.checkpoint(self.save(moment))
        if self.finished:
            shutil.rmtree(self.run.path / "replay", ignore_errors=True)  # only an unfinished run needs it

    def follow(self, moment: Moment) -> None:
        """Takes in one iteration of the loop."""
        before, self.agent_steps = self.frames(), moment.agent_steps
        self.metrics, self.batch = moment.metrics or self.metrics, moment.batch or self.batch
        for episode in self.scores.add(moment.on_host):
            self.keep(episode, self.setup.games.played(episode.game))
        for episode, played in moment.ended:
            self.keep(self.scores.count(episode), played)
        if self.device.type == "cpu":  # elsewhere looking means waiting
            self.check()

        def passed(period: int) -> bool:
            return self.frames() // period > before // period

        if passed(LOG_PERIOD) or self.frames() >= self.experiment.frames:
            self.check()
            self.report()
        if passed(self.experiment.evaluation.period) and self.frames() < self.experiment.frames:
            self.evaluate()
        if self.frames() >= self.experiment.frames:
            self.evaluation_due = True  # which a checkpoint must say: until that is done, the training is not finished
        if passed(self.experiment.checkpoint_period):
            self.or_say_full(lambda: self.save(moment))

    def keep(self, episode: Episode, played: Played) -> None:
        """Logs a finished episode, and how it can be played again."""
        recording = Recording.of(self.game.name, self.protocol, played)
        where = self.run.append_bytes("recordings/training.rec", recording.pack())
        self.log.episode({
            "episode": episode.number, "frames": self.frames(), "agent_steps": self.agent_steps,
            "game": episode.game, "score": episode.score, "steps": episode.agent_steps, "recording": where,
            **({"achieved": names_of(self.game, played.achieved)} if self.game.achievements else {}),
        })  # fmt: skip

    def check(self) -> None:
        """Ends a training that has lost its numbers.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        if not math.isfinite(float(self.metrics.get("losses/loss", 0.0))):
            raise self.diverged("the loss")

    def diverged(self, what: str) -> "Diverged":
        """Keeps the last batch that was learned from; returns the error that says what to do."""
        kept = ""
        if self.batch is not None:
            path = self.run.path / "diverged" / f"{self.agent_steps:012d}.safetensors"
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, packed({str(i): x for i, x in enumerate(tree_leaves(tuple(self.batch)))}))
            last = "" if self.device.type == "cpu" else ", the last before this was noticed,"
            kept = f" the batch{last} is kept in {path};"
        saved = self.run.checkpoints()
        return Diverged(
            f"{what} is no number any more, after {self.frames():_} frames and {self.setup.agent.updates:_} updates;"
            + kept + (f" the last good checkpoint is {saved[-1]};" if saved else "")
            + " try a lower --optimiser.learning-rate or a --optimiser.clip-norm"
        )  # fmt: skip

    def report(self) -> None:
        """Logs the figures of now."""
        then, frames = self.clock
        self.clock = (time.monotonic(), self.frames())
        seconds = max(self.clock[0] - then, 1e-9)  # without evaluations
        speed = (self.frames() - frames) / seconds
        row = {
            "charts/episodic_return": self.scores.mean, "charts/episodes": self.scores.episodes,
            "charts/epsilon": float(torch.as_tensor(self.experiment.explore(self.agent_steps)).mean()),
            "charts/updates": self.setup.agent.updates,
        }  # fmt: skip
        perf = {"charts/FPS": speed, "charts/SPS": speed / self.game.frame_skip, "charts/time": time.time()}
        self.log.log(row | self.metrics, self.agent_steps, perf | usage(self.device) | self.setup.speeds(seconds))
        self.or_say_full(self.begin_to_write_rows)  # now and then, so that a checkpoint has little left to write

    def begin_to_write_rows(self) -> None:
        """Writes what the replay has that is new; beside the training, where that is on a GPU.

        Raises:
            OSError: the disk is full, or was so the last time.
        """
        if self.beside is None:
            self.write_rows()
            return
        failed = self.finish_writing()
        self.writing = self.beside.submit(self.segments.write, self.setup.experience)
        if failed is not None:
            raise failed

    def finish_writing(self) -> BaseException | None:
        """Waits for rows that are being written; returns what went wrong with them."""
        writing, self.writing = self.writing, None
        return None if writing is None else writing.exception()

    def write_rows(self) -> dict[str, Any] | None:
        """Writes what the replay has that is new; returns the manifest of all of it, or None: there is no replay."""
        self.finish_writing()  # what could not be written is tried again
        return None if self.segments is None else self.segments.write(self.setup.experience)

    def evaluate(self) -> None:
        """Scores the agent on separate games, unless it is told to stop."""
        self.evaluation_due = True
        if self.interruption.signal:
            return
        self.interruption.may_abandon = True
        try:
            self._evaluate()
        except KeyboardInterrupt:
            self.log.event("evaluation abandoned")
        finally:
            self.interruption.may_abandon = False
            self.clock = (time.monotonic(), self.frames())
            self.setup.speeds(1.0)  # from here on

    def _evaluate(self) -> None:
        how = self.experiment.evaluation
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            # Training must not depend on whether it is watched.
            result, recordings = score_agent(
                self.setup.agent, self.experiment, how.episodes, epsilon=how.epsilon,
                seed=evaluation_seed(self.experiment), device=self.device,
            )  # fmt: skip
        name = f"{self.agent_steps:012d}"
        result |= {"frames": self.frames(), "agent_steps": self.agent_steps}
        result["recordings"] = keep_recordings(self.run, name, recordings)
        write_json(self.run.path / "evaluations" / f"{name}.json", result)
        self.evaluation = result
        self.or_say_full(lambda: keep_weights(self.run, self.setup.agent, result), "These weights are not kept")
        write_json(self.run.path / "summary.json", self.summary())
        shown, film = recordings[typical(result["scores"])], self.run.path / "recordings" / f"{name}.mp4"
        filmed = how.video_seconds > 0 and could_film(shown, film, how.video_seconds, self.log.event)
        self.interruption.may_abandon = self.evaluation_due = False  # what is logged now must not be logged again
        row = {f"eval/{key}": result[key] for key in ("mean", "median", "human_normalised_mean")}
        row["eval/fingerprint"] = identity(result["fingerprint"])
        self.log.log(row, self.agent_steps)
        self.log.mirror.summary(headline(result))
        if filmed:
            self.log.video(film, self.agent_steps)
        else:  # whoever syncs the run later counts a film for every evaluation
            self.log.mirror.sent += how.video_seconds > 0
        said = f"mean score {mean_of(result)} over {result['episodes']} episodes, {result['protocol']}"
        self.log.say(f"{self.frames():_} frames: {said}")

    def summary(self) -> dict[str, Any]:
        """What summary.json says of the run so far."""
        return {
            "frames": self.frames(), "agent_steps": self.agent_steps, "updates": self.setup.agent.updates,
            "episodes": self.scores.episodes, "training_score": self.scores.mean, "finished": self.finished,
            "stopped": self.stopped, "evaluation": self.evaluation, **self.achievements(),
        }  # fmt: skip

    def achievements(self) -> dict[str, Any]:
        """Of all training episodes so far, in games that have such."""
        if not self.game.achievements:
            return {}
        return achievements(self.game, (row["achieved"] for row in read_rows(self.run.path / "episodes.jsonl")))

    def or_say_full(self, write: Callable[[], Any], then: str = "The next checkpoint tries again") -> None:
        """Writes; a full disk is said aloud and does not end the training."""
        try:
            write()
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            saved = self.run.checkpoints()
            self.log.event(
                f"NOT SAVED: {error.strerror}; free some space. Training goes on. {then}; "
                + (f"the last good one is {saved[-1]}" if saved else "there is none yet")
            )

    def save(self, moment: Moment) -> Path:
        """Writes a checkpoint that training can go on from, bit for bit, and rewrites the summary.

        Raises:
            Diverged: a parameter is no number any more.
            OSError: the disk is full; the checkpoints before are whole.
        """
        for name, x in self.setup.agent.online.state_dict().items():
            if x.is_floating_point() and not bool(torch.isfinite(x).all()):
                raise self.diverged(name)
        tensors, facts = self.snapshot(moment)
        more = {
            "scores": self.scores.facts(), "mirrored": self.log.mirror.sent, "positions": self.run.positions(),
            "evaluation_due": self.evaluation_due, "metrics": {name: plain(x) for name, x in self.metrics.items()},
            "settings": self.run.config["experiment"],
        }  # fmt: skip
        path = self.run.save_checkpoint(tensors, self.summary() | {"resume": facts | more})
        write_json(self.run.path / "summary.json", self.summary())  # last: a run is finished when it says so
        self.forget_rows(lambda facts: facts["rows"])
        return path

    def snapshot(self, moment: Moment) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors, facts) of the training after an iteration; the replay's rows are written beside."""
        tensors, facts = snapshot.take(self.setup, moment)
        return tensors, facts | {"rows": self.write_rows()}

    def forget_rows(self, rows_in: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Removes the rows that no checkpoint names: `rows_in` finds the manifest in what one says for resuming."""
        if self.segments is not None:
            newest = self.run.checkpoints()[-KEPT_CHECKPOINTS:]  # of an older one something may be left
            with contextlib.suppress(OSError, ValueError, KeyError):  # if one cannot be read, the next save forgets
                kept = [json.loads((p / "checkpoint.json").read_text())["resume"] for p in newest]
                self.segments.forget([rows_in(facts) for facts in kept])

    def take_up(self, state: dict[str, Any], segments: Any) -> None:
        """Takes counters and logs back to where a checkpoint was written; the setup must be there already."""
        facts = state["resume"]
        self.scores, self.metrics = Scores.from_facts(facts["scores"], self.experiment.num_envs), facts["metrics"]
        self.agent_steps, self.evaluation = state["agent_steps"], state["evaluation"]
        self.evaluation_due = facts["evaluation_due"]
        self.clock, self.segments = (time.monotonic(), self.frames()), segments
        self.run.cut(facts["positions"])
        self.log.mirror.sent = facts["mirrored"]
        self.log.begin_at(self.frames())


class Diverged(Failed):
    """A training whose loss or parameters are no numbers any more."""
