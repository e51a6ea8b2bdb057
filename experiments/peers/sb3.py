"""Stable-Baselines3 and its contributed agents (Raffin et al. 2021), installed from PyPI, at their Atari settings."""

from collections.abc import Callable
from typing import Any

import ale_py
import gymnasium as gym

from envs.extras import how_to_install

MISSING = "Stable-Baselines3 is not installed: " + how_to_install("peers")


def play(algorithm: str, game: str, learn_start: int, device: str, report: Callable[[int], bool]) -> None:
    """Trains until `report`, given the agent steps so far, says to stop.

    Raises:
        ValueError: Stable-Baselines3 is not installed.
    """
    try:
        from sb3_contrib import QRDQN, RecurrentPPO
        from stable_baselines3 import DQN, PPO
        from stable_baselines3.common.callbacks import BaseCallback
        from stable_baselines3.common.env_util import make_atari_env
        from stable_baselines3.common.vec_env import VecFrameStack
    except ImportError:
        raise ValueError(MISSING) from None

    class Report(BaseCallback):
        def _on_step(self) -> bool:
            return report(self.num_timesteps)

    gym.register_envs(ale_py)
    off_policy: dict[str, Any] = {
        "buffer_size": 20_000, "batch_size": 32, "learning_starts": learn_start, "train_freq": 4,
        "gradient_steps": 1, "target_update_interval": 1_000,
        "exploration_initial_eps": 0.1, "exploration_final_eps": 0.1,  # as the single files: it asks its network
    }  # fmt: skip
    on_policy: dict[str, Any] = {
        "n_steps": 128,
        "batch_size": 256,
        "n_epochs": 4,
        "learning_rate": 2.5e-4,
        "clip_range": 0.1,
    }
    one = {"lstm_hidden_size": 128, "shared_lstm": True, "enable_critic_lstm": False}  # as in CleanRL
    lstm = {"policy_kwargs": one}
    agents: dict[str, tuple[Any, dict[str, Any], str]] = {
        "dqn": (DQN, off_policy, "CnnPolicy"), "qrdqn": (QRDQN, off_policy, "CnnPolicy"),
        "ppo": (PPO, on_policy, "CnnPolicy"), "ppo-lstm": (RecurrentPPO, on_policy | lstm, "CnnLstmPolicy"),
    }  # fmt: skip
    kind, settings, policy = agents[algorithm]
    envs: Any = make_atari_env(f"{game}NoFrameskip-v4", n_envs=1 if settings is off_policy else 8, seed=1)
    if algorithm != "ppo-lstm":
        envs = VecFrameStack(envs, n_stack=4)
    kind(policy, envs, seed=1, verbose=0, device=device, **settings).learn(1_000_000_000, callback=Report())
