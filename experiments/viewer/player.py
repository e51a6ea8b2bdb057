"""One game that is watched: who plays it, and what it shows and means at every agent step."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.agent import Agent
from agents.sequence import tree_map
from envs.games import Games
from envs.protocols import Protocol
from envs.recording import Recording
from envs.screen import ScreenFrame, screen_of
from envs.timestep import TimeStep
from experiments.build import make_games
from experiments.config import Experiment
from experiments.scoring import command_seed
from experiments.viewer import explain


class Scene(NamedTuple):
    """What one agent step shows and means.

    Fields: `step` [1], what the agent sees; `state`, its memory before it, and `next_state` after it; `action`, what
    it would do now; `view`, why, None without an agent or if nobody asks; `frames`, what people see on the way to it;
    `score`, raw, up to now; `lives`, None in games without; `taken`, whether a person decided the action that led here.
    """

    step: TimeStep
    state: Any
    next_state: Any
    action: int
    view: explain.View | None
    frames: list[ScreenFrame]
    score: float
    lives: int | None
    taken: bool

    @property
    def last(self) -> bool:
        return bool(self.step.last[0])


class Player:
    """Plays one episode after another: an agent, a recording, or a person in the place of either.

    An agent's episode is that of `experiments.scoring.score_agent` with that seed: the same games, the same
    `act`, the same random numbers; what is explained draws none.

    Args:
        agent: None, and the game only shows what is played.
        recording: an episode to play again, instead of the agent's own choices.
    """

    def __init__(
        self, experiment: Experiment, protocol: Protocol, device: torch.device, agent: Agent | None,
        recording: Recording | None = None,
    ):  # fmt: skip
        self.agent, self.recording, self.protocol, self.game = agent, recording, protocol, experiment.game
        if recording is not None and recording.game != experiment.game:
            raise ValueError(f"the recording is of {recording.game}, the agent plays {experiment.game}")
        self.games: Games = make_games(experiment, 1, device, protocol.name)
        self.screen = screen_of(experiment.game, protocol)
        self.device, self.epsilon, self.seed = device, 0.0, 0
        self.person = False  # whether one has played in this episode
        self.explained = True  # whether scenes say why
        self.stopped = False  # what is played before a recorded episode ends at once
        self._random: list[Tensor] = []
        self.scene: Scene
        self._played = 0

    def start(self, seed: int = 0, epsilon: float = 0.0) -> Scene:
        """Begins the recorded episode, or that of `highscore evaluate` with this seed; returns its first scene."""
        self.seed, self.epsilon, self.person, self._played = seed, epsilon, False, 0
        with torch.random.fork_rng(devices=self._cuda):
            torch.manual_seed(command_seed(seed))
            self._random = self._random_state()
        if self.recording is None:
            step = self.games.reset(command_seed(seed))
            frames = self.screen.follow(self.games, step)
        else:
            step, frames = self._play_recorded(self.recording.begin)
        state = self.agent.initial_state(1) if self.agent is not None else ()
        return self._show(step, state, frames, score=0.0, taken=False)

    @property
    def ended(self) -> bool:
        return self.scene.last

    def extend(self, action: int | None = None) -> Scene:
        """Plays one agent step; returns the scene that it leads to.

        Args:
            action: a person's; None leaves it to the agent, or to the recording.

        Raises:
            ValueError: the recorded episode went another way than it did once.
        """
        assert not self.ended
        now = self.scene
        taken = action is not None
        self.person |= taken
        chosen = now.action if action is None else action
        step = self.games.step(torch.tensor([chosen]))
        frames = self.screen.follow(self.games, step)
        self._played += 1
        scene = self._show(step, now.next_state, frames, now.score + float(step.reward[0]), taken)
        if self.recording is not None and not self.person:
            over = self._played == len(self.recording.actions) - self.recording.begin
            if scene.last != over:
                raise ValueError("played again, the episode ended at another step: emulator versions differ")
            if over:
                self.recording.check_score(scene.score)
        return scene

    def return_to(self, scene: Scene, played: int) -> None:
        """Goes back to a scene of this episode, `played` agent steps after its first; what came after is undone."""
        now = self.games.played(0)
        actions = now.actions[: now.begin + played]
        step = self.games.begin([now.seed])
        self.screen.follow(self.games, step, show=False)
        for action in actions:
            step = self.games.step(torch.tensor([action]))
            self.screen.follow(self.games, step, show=False)
        self.scene, self._played = scene, played

    def recall(self, steps: Iterable[TimeStep], state: Any) -> Any:
        """The agent's memory after steps, [1] each, that it has seen once; what plays on does not notice."""
        assert self.agent is not None
        with torch.random.fork_rng(devices=self._cuda), torch.no_grad():
            for step in steps:
                _, state = self.agent.acting(tree_map(lambda x: x[None], step), state)
        return state

    def record(self) -> Recording:
        """The episode as it was played up to now."""
        return Recording.of(self.game, self.protocol, self.games.played(0))

    def close(self) -> None:
        """Ends the game, and the copy of it that people see."""
        self.games.close()
        self.screen.close()

    def _play_recorded(self, begin: int) -> tuple[TimeStep, list[ScreenFrame]]:
        """Plays, unseen, what the emulator played before the recorded episode."""
        assert self.recording is not None
        step = self.games.begin([self.recording.seed])
        frames = self.screen.follow(self.games, step, show=begin == 0)
        for t, action in enumerate(self.recording.actions[:begin], 1):
            if self.stopped:
                raise InterruptedError("stopped before the episode began")
            step = self.games.step(torch.tensor([action]))
            frames = self.screen.follow(self.games, step, show=t == begin)
        return step, frames

    def _show(self, step: TimeStep, state: Any, frames: list[ScreenFrame], score: float, taken: bool) -> Scene:
        """Lets the agent look at a step and decide; makes that the present scene."""
        action, view, next_state = 0, None, state
        if self.agent is not None:
            with self._own_randomness():
                drawn = self._random_state()
                chosen, _, next_state = self.agent.act(step, state, self.epsilon)
                # Of a game that is over there is no plan.
                if self.explained and self.agent.found is not None and not bool(step.last[0]):
                    view = explain.view_of_plan(self.agent.found)
                elif self.explained:
                    view = self._look(step, state, drawn)
            action = int(chosen[0])
        if self.recording is not None and not self.person:
            actions = self.recording.actions[self.recording.begin :]
            action = actions[self._played] if self._played < len(actions) else 0
        lives = self.games.info.get("lives")
        self.scene = Scene(
            step, state, next_state, action, view, frames, score, None if lives is None else int(lives[0]), taken
        )
        return self.scene

    def _look(self, step: TimeStep, state: Any, drawn: list[Tensor]) -> explain.View:
        """What the agent expects, with the random numbers `drawn` that it acted upon."""
        assert self.agent is not None
        with torch.random.fork_rng(devices=self._cuda), torch.no_grad():
            self._set_random_state(drawn)
            output, _ = self.agent.acting(tree_map(lambda x: x[None], step), state)
        return explain.view(self.agent.algorithm, tree_map(lambda x: x[0, 0].cpu(), output))

    @property
    def _cuda(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    def _random_state(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._cuda)]

    def _set_random_state(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self._cuda, states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """While it lasts, torch draws for this game alone: others side by side change nothing in it."""
        with torch.random.fork_rng(devices=self._cuda):
            self._set_random_state(self._random)
            yield
            self._random = self._random_state()
