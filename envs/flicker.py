"""Frames that are now and then black (Hausknecht & Stone 2015, sec. 5)."""

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper


class Flicker(VectorWrapper):
    """Blanks each new frame of each game with a fixed probability; a frame that was shown stays so in later stacks.

    Every game has random numbers of its own for this, from the seed that it was reset with: the same seed and the
    same actions show the same frames.

    Args:
        env: observations are [N, stack, ...], newest frame last; every reset is given the seeds of all games.
    """

    def __init__(self, env: VectorEnv, probability: float):
        super().__init__(env)
        self.probability = probability
        shape = env.single_observation_space.shape
        assert shape is not None
        self.lit = np.ones((env.num_envs, shape[0]), bool)  # of each game's latest frames
        self.chance = [np.random.default_rng() for _ in range(env.num_envs)]

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        games = np.flatnonzero(options["reset_mask"]) if options else np.arange(self.num_envs)
        for game in games:  # not the numbers of any other use of its seed
            self.chance[game] = np.random.default_rng([int(seed[game]), 1])
        return self._blank(obs, games), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.send(actions)
        return self.recv()

    def send(self, actions: Any) -> None:
        self.env.send(actions)  # type: ignore[attr-defined]

    def recv(self) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, *rest = self.env.recv()  # type: ignore[attr-defined]
        return self._blank(obs, range(self.num_envs)), *rest

    def _blank(self, obs: np.ndarray, games: Any) -> np.ndarray:
        """Draws for the newest frames of some games; blanks all that are to be."""
        for game in games:
            self.lit[game, :-1] = self.lit[game, 1:]
            self.lit[game, -1] = self.chance[game].random() >= self.probability
        return obs * self.lit.reshape(*self.lit.shape, *[1] * (obs.ndim - 2))
