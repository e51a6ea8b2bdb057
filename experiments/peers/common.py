"""Parts of the single-file reference agents: environments, torso and replay, as research scripts have them."""

import math
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, RecordEpisodeStatistics, TransformReward
from torch import Tensor, nn

gym.register_envs(ale_py)


class EpisodicLife(gym.Wrapper):
    """Ends an episode at every lost life, as CleanRL's; the next begins where the game goes on, unless that is over."""

    over, lives = True, 0

    def reset(self, **options: Any) -> Any:
        if not self.over:
            obs, _, terminated, truncated, info = self.env.step(0)
        if self.over or terminated or truncated:
            obs, info = self.env.reset(**options)
        self.over, self.lives = False, info["lives"]
        return obs, info

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.over, lost, self.lives = terminated or truncated, 0 < info["lives"] < self.lives, info["lives"]
        return obs, reward, terminated or lost, truncated, info


def make_env(game: str, num_envs: int) -> gym.vector.SyncVectorEnv:
    """Copies of a game in one process, preprocessed in Python."""

    def one() -> gym.Env:
        env: gym.Env = gym.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=0.0)
        env = EpisodicLife(AtariPreprocessing(RecordEpisodeStatistics(env), noop_max=30))
        return FrameStackObservation(TransformReward(env, lambda r: float(np.sign(float(r)))), 4)

    return gym.vector.SyncVectorEnv([one] * num_envs, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)


def init(layer: Any, gain: float = math.sqrt(2)) -> Any:
    """Orthogonal weights and zero biases."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Torso(nn.Sequential):
    """The convolutions of Mnih et al. (2015)."""

    def __init__(self, layer_norm: bool = False) -> None:
        layers: list[nn.Module] = []
        for inputs, out, kernel, stride, side in ((4, 32, 8, 4, 20), (32, 64, 4, 2, 9), (64, 64, 3, 1, 7)):
            norm = [nn.LayerNorm([out, side, side])] if layer_norm else []
            layers += [nn.Conv2d(inputs, out, kernel, stride), *norm, nn.ReLU()]
        super().__init__(*layers, nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 255.0)


class ReplayBuffer:
    """Transitions with both stacks, one by one."""

    def __init__(self, size: int, batch_size: int):
        self.size, self.batch_size, self.added = size, batch_size, 0
        self.obs = np.zeros((size, 4, 84, 84), np.uint8)
        self.next_obs = np.zeros((size, 4, 84, 84), np.uint8)
        self.action, self.reward = np.zeros((size, 1), np.int64), np.zeros((size, 1), np.float32)
        self.over = np.zeros((size, 1), np.float32)

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, over: Any) -> int:
        at = self.added % self.size
        self.obs[at], self.next_obs[at], self.action[at] = obs, next_obs, action
        self.reward[at], self.over[at] = reward, over
        self.added += 1
        return at

    def take(self, at: np.ndarray) -> list[Tensor]:
        return [torch.as_tensor(x[at]) for x in (self.obs, self.next_obs, self.action, self.reward, self.over)]

    def sample(self) -> list[Tensor]:
        return self.take(np.random.randint(0, min(self.added, self.size), self.batch_size))


def played(env: gym.vector.SyncVectorEnv, obs: np.ndarray, action: np.ndarray) -> tuple[Any, ...]:
    """One step: what was seen next, also where an episode ended."""
    after, reward, terminated, truncated, info = env.step(action)
    real = after.copy()
    for i, ended in enumerate(terminated | truncated):
        if ended:
            real[i] = info["final_obs"][i]
    return after, real, reward, terminated
