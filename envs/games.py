"""N copies of one game, stepped together."""

from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from envs.timestep import TimeStep


class ActionLog:
    """The seed of one environment and the actions since: all it takes to play the same again."""

    def __init__(self, seed: int):
        self.seed = seed
        self.actions = bytearray()

    def __len__(self) -> int:
        return len(self.actions)


class Games:
    """Turns a Gymnasium vector environment (NEXT_STEP autoreset) into a stream of TimeSteps.

    Args:
        env: synchronous vector environment with discrete actions. `send` and `recv` are used if it
            has them, so that the emulators run while the caller learns.
        device: where the TimeSteps' tensors live.
        life_loss_is_terminal: marks the step at which `info["lives"]` falls as terminal, not last.
        reseed_after: seeds an environment anew at the first episode end after so many agent steps,
            which bounds its action log (a byte a step). None: never.

    Attributes:
        agent_steps: agent steps played since `reset`. The step that restarts an episode plays
            nothing and does not count.
        logs: per environment, the seed it was last given and every action since, the ignored
            one at each episode's end included.
    """

    def __init__(
        self, env: VectorEnv, device: str | torch.device = "cpu", *,
        life_loss_is_terminal: bool = False, reseed_after: int | None = None,
    ):  # fmt: skip
        if (mode := env.metadata.get("autoreset_mode")) is not AutoresetMode.NEXT_STEP:
            raise ValueError(f"Games needs NEXT_STEP autoreset; this environment has {mode}")
        self.env, self.device = env, torch.device(device)
        self.num_envs = env.num_envs
        self.num_actions = int(env.single_action_space.n)  # type: ignore[attr-defined]
        self.life_loss_is_terminal, self.reseed_after = life_loss_is_terminal, reseed_after
        self.agent_steps = 0
        self.logs: list[ActionLog] = []
        self._ended = np.zeros(self.num_envs, bool)
        self._action = np.zeros(self.num_envs, np.int64)
        self._lives = np.zeros(self.num_envs, np.int64)
        self._seeds = np.random.default_rng(0)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation, such as (4, 84, 84)."""
        shape = self.env.single_observation_space.shape
        assert shape is not None
        return shape

    def reset(self, seed: int) -> TimeStep:
        """Starts every game anew; each gets its own seed, drawn from `seed`."""
        self._seeds = np.random.default_rng(seed)
        seeds = self._draw_seeds(self.num_envs)
        obs, info = self.env.reset(seed=seeds)
        self.logs = [ActionLog(int(s)) for s in seeds]
        none = np.zeros(self.num_envs, bool)
        self.agent_steps = 0
        self._ended, self._lives = none, self._lives_in(info)
        return self._timestep(obs, np.zeros(self.num_envs), first=~none, last=none, terminal=none)

    def step(self, action: Tensor) -> TimeStep:
        """Plays one action [N] in every game; a game whose episode is over restarts instead."""
        self.send(action)
        return self.recv()

    def send(self, action: Tensor) -> None:
        """Starts the games on an action [N], without waiting.

        Raises:
            ValueError: an action outside 0..num_actions - 1 (it would hang the emulator).
        """
        chosen = action.cpu().numpy()
        if chosen.shape != (self.num_envs,) or chosen.min() < 0 or chosen.max() >= self.num_actions:
            raise ValueError(f"actions must be {self.num_envs} numbers in 0..{self.num_actions - 1}, got {chosen}")
        self._action = np.where(self._ended, 0, chosen).astype(np.int64)
        for log, one in zip(self.logs, self._action, strict=True):
            log.actions.append(one)
        self.agent_steps += int((~self._ended).sum())
        if hasattr(self.env, "send"):
            self.env.send(self._action)

    def recv(self) -> TimeStep:
        """Waits for what `send` started."""
        first = self._ended
        result = self.env.recv() if hasattr(self.env, "recv") else self.env.step(self._action)
        obs, reward, terminated, truncated, info = result
        lives = self._lives_in(info)
        lost_life = (lives < self._lives) & ~first
        terminal = terminated | (lost_life & self.life_loss_is_terminal)
        self._ended, self._lives = terminated | truncated, lives
        self._reseed(first, obs)
        return self._timestep(obs, reward, first=first, last=self._ended, terminal=terminal)

    def _reseed(self, first: np.ndarray, obs: np.ndarray) -> None:
        """Seeds environments that begin an episode with a long log anew; writes into `obs`."""
        if self.reseed_after is None:
            return
        mask = first & (np.array([len(log) for log in self.logs]) >= self.reseed_after)
        if not mask.any():
            return
        seeds = self._draw_seeds(int(mask.sum()))
        fresh, info = self.env.reset(seed=seeds, options={"reset_mask": mask})
        obs[mask] = fresh[mask]
        self._lives = self._lives_in(info)
        for env, seed in zip(np.flatnonzero(mask), seeds, strict=True):
            self.logs[env] = ActionLog(int(seed))

    def _draw_seeds(self, count: int) -> Any:
        seeds = self._seeds.integers(2**31 - 1, size=count)
        return seeds if hasattr(self.env, "send") else seeds.tolist()  # Gymnasium's own want a list

    def _lives_in(self, info: dict[str, Any]) -> np.ndarray:
        return np.asarray(info.get("lives", np.zeros(self.num_envs)), np.int64)

    def _timestep(
        self, obs: np.ndarray, reward: np.ndarray, first: np.ndarray, last: np.ndarray, terminal: np.ndarray
    ) -> TimeStep:
        def to(x: np.ndarray, dtype: Any) -> Tensor:
            return torch.as_tensor(np.asarray(x, dtype)).to(self.device, non_blocking=True)

        action = np.where(first, 0, self._action)
        return TimeStep(
            to(obs, obs.dtype), to(action, np.int64), to(np.where(first, 0, reward), np.float32),
            to(first, bool), to(last, bool), to(terminal, bool),
        )  # fmt: skip

    def close(self) -> None:
        self.env.close()
