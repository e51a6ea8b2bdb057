"""What is being watched: one game or several in step, a cursor in their histories, and people's wishes."""

import contextlib
import queue
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from agents.agent import Agent
from envs.recording import Recording
from experiments.episodes import keep_people_episode
from experiments.files import RunError
from experiments.viewer.history import History
from experiments.viewer.keys import action_of, idle_of
from experiments.viewer.message import Message, line_of, message_of
from experiments.viewer.player import Player
from experiments.viewer.source import Source

SPEEDS = (0.1, 0.25, 0.5, 1, 2, 4)
SALIENCY = ("off", "gradient", "perturbation")
LETTING_GO = 0.8  # seconds without a key after which the agent goes on
BETWEEN_EPISODES = 1.5  # seconds
ALONE = 0.5  # seconds between two looks for somebody


@dataclass
class Wishes:
    """What people have set on the page."""

    seed: int = 0
    epsilon: float = 0.001
    checkpoint: str = ""
    paused: bool = False
    speed: float = 1
    saliency: str = "off"
    features: bool = False
    keys: list[str] = field(default_factory=list)


class Show:
    """Plays, remembers and publishes; obeys commands. Runs in one thread, its own, and nothing in it before `begin`.

    Args:
        kind: "agent", which plays one episode after another; "duel", a person beside the agent; "episode", a
            recorded one; or "progress", several recorded ones side by side.
        recordings: (label, episode) of the last two kinds.
        publish: is given every message for the pages; must not wait.

    Attributes:
        alone: nobody looks, and nothing is played.
    """

    def __init__(
        self, source: Source, protocol: Any, device: torch.device, kind: str,
        recordings: list[tuple[str, Recording]], wishes: Wishes, publish: Callable[[Message], None],
    ):  # fmt: skip
        self.source, self.protocol, self.device, self.publish = source, protocol, device, publish
        self.kind, self.recordings, self.wishes = kind, recordings, wishes
        wishes.checkpoint = wishes.checkpoint or source.chosen
        self.commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self.lanes: list[History] = []
        self.cursor, self.episode, self.note = 0, 0, ""
        self.tally = {"agent": 0, "you": 0}
        self.stopped = self.alone = False
        self._due = self._key_held = self._ended_at = 0.0
        self._single = self._unseen = False
        self._loaded: dict[str, Agent] = {}  # the one that is shown
        self.lanes = self._players()

    def begin(self) -> None:
        """Begins the first episode, after all that was played before it: of a recorded one this may take minutes."""
        self._start()
        self.show(still=True)

    def run(self) -> None:
        """Begins, and plays until it is stopped."""
        self.begin()
        while not self.stopped:
            try:
                self.turn()
            except Exception as error:  # such as a GPU that a training fills: the page stays, and says so
                traceback.print_exc()
                self._stand_still(line_of(error))
                time.sleep(ALONE)  # what fails at every turn must not fill a core and a terminal

    def stop(self) -> None:
        """Ends `run`, even while it plays what came before an episode."""
        self.stopped = True
        for lane in self.lanes:
            lane.player.stopped = True

    def _stand_still(self, note: str) -> None:
        """Pauses, without what costs memory and time, and says why."""
        self.note, self.wishes.paused, self.wishes.saliency, self.wishes.features = note, True, "off", False
        with contextlib.suppress(Exception):  # where not even this can be shown, the next wish may be
            self.show(still=True)

    def turn(self) -> None:
        """Obeys what has been asked for; then plays or shows one agent step if it is time, else waits a little."""
        try:
            while True:
                self.obey(self.commands.get_nowait())
        except queue.Empty:
            pass
        now = time.monotonic()
        if self.alone:
            self._wait(ALONE)
        elif (not self.wishes.paused or self._single) and now >= self._due:
            self._single = False
            step = self.lanes[0].player.screen
            period = step.frames_per_step / step.frames_per_second / self.wishes.speed
            self._due = max(self._due + period, now - period)  # late by more than a step: do not hurry after it
            self.advance()
        elif self.kind == "episode" and not self.lanes[0].ended and not self.lanes[0].player.person:
            self.lanes[0].extend(None)  # its time line is drawn ahead of what is shown
            if len(self.lanes[0]) % 50 == 0 and self.wishes.paused:
                self.show(still=True)
        else:
            self._wait(0.05 if self.wishes.paused else min(max(self._due - now, 0.001), 0.05))

    def _wait(self, seconds: float) -> None:
        """Waits for the next command, and obeys it."""
        with contextlib.suppress(queue.Empty):
            self.obey(self.commands.get(timeout=seconds))

    def advance(self) -> None:
        """Shows the next scene, playing it if it has not been played."""
        if self._at_the_end():
            return self._after_the_end()
        if self._pressed() is not None and self.kind in ("agent", "episode") and self.cursor < self.edge:
            self.lanes[0].cut(self.cursor)  # a person takes over here; what was to come does not
            self.episode += 1
        if self.cursor == self.edge:
            for lane in self.lanes:
                if not lane.ended:
                    lane.extend(self._action_for(lane))
                    if lane.ended:
                        self._finish(lane)
            if self.cursor == self.edge:  # none of them could go on
                return self.show(still=True)
            self._ended_at = time.monotonic()
        self.cursor += 1
        self.show()

    @property
    def edge(self) -> int:
        """The newest scene there is."""
        return max(len(lane) for lane in self.lanes) - 1

    def show(self, still: bool = False) -> None:
        """Publishes the present scenes; `still`: as pictures, not as movement."""
        self.note = next((lane.failure for lane in self.lanes if lane.failure), self.note)
        self.publish(message_of(self, still))

    def obey(self, command: dict[str, Any]) -> None:
        """Does what a page asks for; what makes no sense is answered with a note."""
        if not self._unseen:
            self.note = ""
        try:
            self._obey(command)
        except (RunError, ValueError, TypeError, KeyError, OverflowError) as error:
            self.note = str(error)
        self._unseen |= command.get("do") != "keys"
        if self._unseen and self.commands.empty():  # of many in a row, such as a drag's, what came of them all
            self._unseen = False
            self.show(still=True)

    def _obey(self, command: dict[str, Any]) -> None:
        wishes = self.wishes
        value: Any = command.get("value")
        match command["do"]:
            case "keys":
                self._press([str(key)[:16] for key in value[:8]] if isinstance(value, list) else [])
            case "pause":
                wishes.paused = bool(value)
                if not value and self.kind in ("episode", "progress") and self._at_the_end():
                    self.cursor = 0  # it begins again
            case "step":
                wishes.paused, self._single, self._due = True, True, 0.0
            case "seek":
                wishes.paused = True
                self.cursor = min(max(int(value), 0), self.edge)
            case "rewind":
                screen = self.lanes[0].player.screen
                steps = float(value) * screen.frames_per_second / screen.frames_per_step
                self.cursor = max(self.cursor - round(steps), 0)
            case "speed":
                wishes.speed = one_of(float(value), SPEEDS)
            case "saliency":
                wishes.saliency = one_of(value, SALIENCY)
            case "features":
                wishes.features = bool(value)
            case "epsilon":
                wishes.epsilon = probability(value)
                for lane in self.lanes:
                    lane.player.epsilon = wishes.epsilon
            case "seed":
                wishes.seed = seed_of(value)
                self._start()
            case "checkpoint":
                self._cast(self.kind, str(value))
            case "kind":
                self._cast(one_of(value, ("agent", "duel")), wishes.checkpoint)
                wishes.paused, self.tally = self.kind == "duel", {"agent": 0, "you": 0}

    def close(self) -> None:
        """Ends every game; nothing is shown any more."""
        close(self.lanes)

    def _cast(self, kind: str, checkpoint: str) -> None:
        """Makes the players that a kind of show needs, and begins; where that fails, all stays as it was."""
        before = self.kind, self.wishes.checkpoint, self.lanes, self._loaded, self.cursor
        self.kind, self.wishes.checkpoint = kind, checkpoint
        try:
            self.lanes = self._players()  # before they begin, so that `stop` reaches them
            self._start()
        except Exception:
            made = self.lanes
            self.kind, self.wishes.checkpoint, self.lanes, self._loaded, self.cursor = before
            if made is not self.lanes:
                close(made)
            raise
        close(before[2])

    def _players(self) -> list[History]:
        experiment, name = self.source.experiment, self.wishes.checkpoint
        if self.kind == "progress":
            return [
                History(Player(experiment, episode.protocol, self.device, None, episode), label)
                for label, episode in self.recordings
            ]
        label, episode = self.recordings[0] if self.kind == "episode" else ("agent", None)
        player = Player(experiment, episode.protocol if episode else self.protocol, self.device, None, episode)
        if name not in self._loaded:  # a training that goes on removes its older checkpoints
            agent = self.source.load(name, player.games.observation_shape, player.games.num_actions, self.device)
            self._loaded = {name: agent}
        player.agent = self._loaded[name]
        lanes = [History(player, label)]
        if self.kind == "duel":
            lanes.append(History(Player(experiment, self.protocol, self.device, None), "you"))
        return lanes

    def _start(self) -> None:
        """Begins an episode, with the seed wished for."""
        self.source = self.source.renewed(self.wishes.checkpoint)
        self.cursor, self.episode, self._due = 0, self.episode + 1, 0.0
        for lane in self.lanes:
            lane.start(self.wishes.seed, self.wishes.epsilon)
        if self.kind == "duel":
            self.wishes.paused = True
            self.note = "Press an arrow key or the space bar to begin."

    def _press(self, keys: list[str]) -> None:
        if self._pressed() is not None:
            self._key_held = time.monotonic()
        self.wishes.keys = keys
        if keys and self.kind == "duel" and self.cursor == 0:
            self.wishes.paused = False

    def _pressed(self) -> int | None:
        return action_of(self.wishes.keys, self.lanes[0].player.screen.action_names)

    def _idle(self) -> int | None:
        return idle_of(self.lanes[0].player.screen.action_names)

    def _action_for(self, lane: History) -> int | None:
        """The action of a person who plays this lane, NOOP for a while after letting go; None for the agent's own."""
        mine = lane.label == "you" if self.kind == "duel" else self.kind != "progress"
        if not mine:
            return None
        if (action := self._pressed()) is not None:
            return action
        if self.kind == "duel":
            return self._idle() or 0
        return self._idle() if time.monotonic() < self._key_held + LETTING_GO else None

    def _finish(self, lane: History) -> None:
        """Keeps the episode of a person; counts who won."""
        if lane.failure:
            return
        if lane.player.person and self.source.run is not None:
            try:
                self.note = f"recorded as episode {keep_people_episode(self.source.run, lane.player.record())}"
            except (OSError, ValueError) as error:
                self.note = f"not recorded: {error}"
        if self.kind == "duel" and all(other.player.ended for other in self.lanes):
            agent, you = (one.player.scene.score for one in self.lanes)
            if agent != you:
                self.tally["agent" if agent > you else "you"] += 1

    def _at_the_end(self) -> bool:
        return self.cursor == self.edge and all(lane.ended for lane in self.lanes)

    def _after_the_end(self) -> None:
        if self.kind in ("episode", "progress"):
            self.wishes.paused = True
            self.show(still=True)
        elif time.monotonic() > self._ended_at + BETWEEN_EPISODES:
            self.wishes.seed += 1
            self._start()
            self.show()


def close(lanes: list[History]) -> None:
    """Ends the games of players."""
    for lane in lanes:
        lane.player.close()


def one_of(value: Any, known: tuple[Any, ...]) -> Any:
    """The value, if it is one of those known.

    Raises:
        ValueError: it is not.
    """
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(map(str, known))}")
    return value


def probability(value: Any) -> float:
    """An exploration rate.

    Raises:
        ValueError: it is none.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found <= 1:
        raise ValueError("epsilon is a probability, from 0 to 1")
    return found


def seed_of(value: Any) -> int:
    """A seed.

    Raises:
        ValueError: it is none.
    """
    text = str(value)
    if not text.isdecimal() or len(text) > 10 or int(text) >= 1 << 31:
        raise ValueError("the seed is a whole number from 0 to 2147483647")
    return int(text)
