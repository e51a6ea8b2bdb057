"""N copies of one game, stepped together."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from envs.played import ActionLog, Played
from envs.timestep import NO_STEP, TimeStep, copy_to_host

UNLIKE = "the new emulator does not repeat what was played; resume the run"
PATIENCE = 5.0  # seconds; what takes longer is announced


class Games:
    """Turns a Gymnasium vector environment (NEXT_STEP autoreset) into a stream of TimeSteps.

    Args:
        make_env: makes a vector environment with discrete actions, whose step is also two: `send` starts it and
            `recv` waits for it, so that the emulators run while the caller learns. A masked reset is given the
            seeds of all. Called again if the environment dies: what it had played is then played again from the
            logs.
        device: where the TimeSteps' tensors live.
        life_loss_is_terminal: marks the step at which `info["lives"]` falls as terminal, not last.
        reseed_after: seeds an environment anew at the first episode end after so many agent steps,
            which bounds its action log (a byte a step). None: never.

    Attributes:
        agent_steps: agent steps played since `reset`. The step that restarts an episode plays
            nothing and does not count.
        logs: per environment, the seed it was last given and everything since.
        info: what the environments said besides at the last step, such as `lives` [N].
        on_host: the last step [N] without its frames, on the host, where it can be looked at without waiting for a GPU.
        say: told what people should know.

    An environment may count achievements: `info["achieved"]` then has a bit for each of the episode.
    """

    def __init__(
        self, make_env: Callable[[], VectorEnv], device: str | torch.device = "cpu", *,
        life_loss_is_terminal: bool = False, reseed_after: int | None = None,
    ):  # fmt: skip
        env = make_env()
        if (mode := env.metadata.get("autoreset_mode")) is not AutoresetMode.NEXT_STEP:
            raise ValueError(f"Games needs NEXT_STEP autoreset; this environment has {mode}")
        self.env: Any = env  # whose send and recv Gymnasium does not name
        self.make_env, self.device = make_env, torch.device(device)
        self.num_envs = env.num_envs
        self.num_actions = int(env.single_action_space.n)  # type: ignore[attr-defined]
        assert self.num_actions <= 256, "a log keeps a byte per action"
        self.say: Callable[[str], None] = print
        self.life_loss_is_terminal, self.reseed_after = life_loss_is_terminal, reseed_after
        self.agent_steps = 0
        self.logs: list[ActionLog] = []
        self.info: dict[str, Any] = {}
        self._ended = np.zeros(self.num_envs, bool)
        self._action = np.zeros(self.num_envs, np.int64)
        self._lives = np.zeros(self.num_envs, np.int64)
        self._achieved = np.zeros(self.num_envs, np.int64)
        self._seeds = np.random.default_rng(0)
        self.on_host, self._shown = NO_STEP, NO_STEP
        self._coming: tuple[Tensor, torch.cuda.Event] | None = None

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation, such as (4, 84, 84)."""
        shape = self.env.single_observation_space.shape
        assert shape is not None
        return shape

    def reset(self, seed: int) -> TimeStep:
        """Starts every game anew; each gets its own seed, drawn from `seed`."""
        self._seeds = np.random.default_rng(seed)
        return self.begin(self._draw_seeds(self.num_envs).tolist())

    def begin(self, seeds: list[int]) -> TimeStep:
        """Starts every game anew from the very seeds [N] of its environment, such as those in recordings."""
        self.logs = [ActionLog(seed) for seed in seeds]
        obs, info = self._reset()
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

        An action on a GPU is not waited for, either: `start` starts the games once it has arrived, and `recv` at the
        latest. Meanwhile the GPU may be given more to do.

        Raises:
            ValueError: an action outside 0..num_actions - 1 (it would hang the emulator); of an action on a GPU this is
                seen when the games start.
        """
        if action.device.type == "cpu":
            self._start_with(action)
        else:
            self._coming = copy_to_host(action)
        self.agent_steps += int((~self._ended).sum())

    def start(self) -> None:
        """Starts the games, if they wait for what a GPU chose and that is there by now."""
        if self._coming is not None and self._coming[1].query():
            self._start_with(self._coming[0])

    def _start_with(self, action: Tensor) -> None:
        self._coming = None
        chosen = action.numpy()
        if chosen.shape != (self.num_envs,) or chosen.min() < 0 or chosen.max() >= self.num_actions:
            raise ValueError(f"actions must be {self.num_envs} numbers in 0..{self.num_actions - 1}, got {chosen}")
        self._action = np.where(self._ended, 0, chosen).astype(np.int64)
        for log, one in zip(self.logs, self._action, strict=True):
            log.actions.append(one)
        with contextlib.suppress(OSError):  # `recv` finds what is dead
            self.env.send(self._action)

    def recv(self) -> TimeStep:
        """Waits for what `send` started.

        Raises:
            Exception: the environment's own, if another one in its place ends in the same way.
        """
        if self._coming is not None:
            action, arrived = self._coming
            arrived.synchronize()
            self._start_with(action)
        first = self._ended
        try:
            result = self.env.recv()
        except Exception as error:
            result = self._replace(error)
        obs, reward, terminated, truncated, info = result
        for log, restarted, earned in zip(self.logs, first, reward, strict=True):
            if restarted:
                del log.rewards[:]
            else:
                log.rewards.append(earned)
        self._achieved = np.asarray(info.get("achieved", self._achieved), np.int64)
        lives = self._lives_in(info)
        lost_life = (lives < self._lives) & ~first
        terminal = terminated | (lost_life & self.life_loss_is_terminal)
        self._ended, self._lives = terminated | truncated, lives
        self._reseed(first, obs)
        return self._timestep(obs, reward, first=first, last=self._ended, terminal=terminal)

    def _replace(self, error: Exception) -> Any:
        """Makes the environment anew, plays the logs up to the last action, then that; returns what came of it."""
        self._renew(error)
        obs, alike = self._play_again(but=1)
        if not alike or not np.array_equal(obs, self._shown.obs.cpu().numpy()):
            raise RuntimeError(UNLIKE) from error
        return self.env.step(self._action)

    def _renew(self, error: Exception) -> None:
        """Another environment in the place of one that died."""
        self.say(f"an emulator died ({type(error).__name__}: {error}); a new one plays what it had played")
        with contextlib.suppress(Exception):
            self.env.close(terminate=True)
        self.env = self.make_env()

    def _reseed(self, first: np.ndarray, obs: np.ndarray) -> None:
        """Seeds environments that begin an episode with a long log anew; writes into `obs`."""
        if self.reseed_after is None:
            return
        mask = first & (np.array([len(log) for log in self.logs]) >= self.reseed_after)
        if not mask.any():
            return
        for env, seed in zip(np.flatnonzero(mask), self._draw_seeds(int(mask.sum())), strict=True):
            self.logs[env] = ActionLog(int(seed))
        try:
            fresh, info = self._reset(mask)
        except Exception as error:
            self._renew(error)
            (fresh, alike), info = self._play_again(), self.info  # it is told of the episodes that begin already
            if not alike or not np.array_equal(fresh[~mask], obs[~mask]):
                raise RuntimeError(UNLIKE) from error
        obs[mask] = fresh[mask]
        self._lives = self._lives_in(info)

    def _reset(self, mask: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Resets all environments, or those [N] in a mask, with the seeds in their logs."""
        options = None if mask is None else {"reset_mask": mask}
        return self.env.reset(seed=[log.seed for log in self.logs], options=options)

    def _draw_seeds(self, count: int) -> np.ndarray:
        return self._seeds.integers(2**31 - 1, size=count)

    def _lives_in(self, info: dict[str, Any]) -> np.ndarray:
        self.info = info
        return np.asarray(info.get("lives", np.zeros(self.num_envs)), np.int64)

    def _timestep(
        self, obs: np.ndarray, reward: np.ndarray, first: np.ndarray, last: np.ndarray, terminal: np.ndarray
    ) -> TimeStep:
        def to(x: Tensor) -> Tensor:
            return x.to(self.device, non_blocking=True)

        action, reward = np.where(first, 0, self._action), np.where(first, 0, reward).astype(np.float32)
        flags = (torch.as_tensor(np.asarray(x, bool)) for x in (first, last, terminal))
        self.on_host = TimeStep(torch.empty(0), torch.as_tensor(action), torch.as_tensor(reward), *flags)
        step = TimeStep(*map(to, self.on_host))
        if self.device.type == "cpu" or first.all():
            frames = to(torch.as_tensor(obs))
        else:  # only the newest frame crosses: what is older is there
            newest = torch.as_tensor(obs[:, -1])
            pinned = torch.empty(newest.shape, dtype=newest.dtype, pin_memory=True).copy_(newest)
            frames = pushed(self._shown.obs, to(pinned), step.first)
        self._shown = step._replace(obs=frames)
        return self._shown

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """All that `restore` needs, as JSON-able facts and tensors; a byte for each action since the last seeding."""
        facts = {
            "agent_steps": self.agent_steps, "seeds": [log.seed for log in self.logs],
            "lengths": [len(log.actions) for log in self.logs], "episodes": [len(log.rewards) for log in self.logs],
            "seeder": self._seeds.bit_generator.state,
        }  # fmt: skip
        arrays = {
            "ended": self._ended, "lives": self._lives, "action": self._action,
            "actions": np.frombuffer(b"".join(bytes(log.actions) for log in self.logs), np.uint8),
            "rewards": np.concatenate([np.array(log.rewards, np.float32) for log in self.logs]),
        }  # fmt: skip
        shown = {f"shown.{name}": x.cpu() for name, x in self._shown._asdict().items()}
        return facts, {name: torch.from_numpy(x.copy()) for name, x in arrays.items()} | shown

    def restore(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[TimeStep, bool]:
        """Plays every environment's log again, and so brings it back to where `state` found it.

        Returns:
            The TimeStep [N] that was shown last, and whether the environments show it again and have earned the same
            on the way: some cannot repeat themselves, and none can with another version of its emulator. `restart`
            is the way on then.

        Raises:
            ValueError: an action that the game does not have.
        """

        def split(name: str, lengths: str) -> list[np.ndarray]:
            return np.split(tensors[name].numpy(), np.cumsum(facts[lengths])[:-1])

        self.logs = [ActionLog(seed) for seed in facts["seeds"]]
        parts = zip(self.logs, split("actions", "lengths"), split("rewards", "episodes"), strict=True)
        for log, actions, rewards in parts:
            if actions.size and actions.max() >= self.num_actions:  # it would hang the emulator
                raise ValueError(f"action {actions.max()} is none of the {self.num_actions} that the game has here")
            log.actions += actions.tobytes()
            log.rewards.extend(rewards.tolist())
        try:
            obs, alike = self._play_again()
        except Exception as error:  # the environment's own, which did not end so when it was played
            self._renew(error)
            obs, alike = np.empty(0), False
        self._shown = TimeStep(*(tensors[f"shown.{name}"].to(self.device) for name in TimeStep._fields))
        self.on_host = TimeStep(torch.empty(0), *(tensors[f"shown.{name}"] for name in TimeStep._fields[1:]))
        exact = alike and np.array_equal(obs, tensors["shown.obs"].numpy())
        self._ended, self._lives = tensors["ended"].numpy().copy(), tensors["lives"].numpy().copy()
        self._action = tensors["action"].numpy().copy()
        self._seeds.bit_generator.state = facts["seeder"]
        self.agent_steps = facts["agent_steps"]
        return self._shown, exact

    def restart(self) -> TimeStep:
        """Gives up the episodes that are played and begins others, seeded anew; `agent_steps` counts on."""
        seeds, agent_steps = self._seeds, self.agent_steps
        step = self.reset(int(seeds.integers(2**31 - 1)))
        self._seeds, self.agent_steps = seeds, agent_steps
        return step

    def played(self, game: int) -> Played:
        """The episode that one of the games plays, or has just ended."""
        log = self.logs[game]
        begin, achieved = len(log.actions) - len(log.rewards), int(self._achieved[game])
        return Played(log.seed, begin, bytes(log.actions), list(log.rewards), achieved)

    def _play_again(self, but: int = 0) -> tuple[np.ndarray, bool]:
        """Seeds every environment as its log says and plays the log, but for its last few actions.

        Returns:
            The last observations [N, ...], and whether the present episodes have earned what the logs say.
        """
        earned = []
        # Logs end together, so they begin apart: each environment is seeded when its own begins.
        lengths = np.array([len(log) for log in self.logs]) - but
        begins, patience = lengths.max() - lengths, PATIENCE
        obs, _ = self._reset()
        begun = time.monotonic()
        for t in range(lengths.max() + 1):
            if t and (spent := time.monotonic() - begun) > patience:
                patience, left = 2 * spent, spent * (lengths.sum() / np.clip(t - begins, 0, None).sum() - 1)
                self.say(f"playing {lengths.sum():_} agent steps again, to be where the games were: {left:.0f} s left")
            if t and (mask := begins == t).any():
                fresh, _ = self._reset(mask)
                obs = np.where(mask.reshape(-1, *[1] * (obs.ndim - 1)), fresh, obs)
            if t < lengths.max():
                parts = zip(self.logs, begins, strict=True)
                actions = [log.actions[t - begin] if t >= begin else 0 for log, begin in parts]
                obs, reward, *_ = self.env.step(np.array(actions, np.int64))
                earned.append(reward)
        by_game = np.array(earned, np.float32).reshape(-1, self.num_envs).T
        pairs = zip(self.logs, by_game, strict=True)
        return obs, all(np.array_equal(row[len(row) - len(log.rewards) :], log.rewards) for log, row in pairs)

    def close(self) -> None:
        self.env.close()


def pushed(stack: Tensor, newest: Tensor, first: Tensor) -> Tensor:
    """The next stack of frames [N, k, ...], from the one before and the newest [N, ...]; blank before a `first` [N]."""
    older = stack[:, 1:].masked_fill(first.view(-1, *[1] * (stack.dim() - 1)), 0)
    return torch.cat([older, newest[:, None]], 1)
