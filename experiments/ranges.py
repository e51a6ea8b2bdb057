"""What the numbers of an experiment may be."""

import math

from agents.bbf import BBF
from agents.munchausen import Munchausen, MunchausenIQN
from agents.ppo import PPO
from experiments.config import Experiment, to_json
from experiments.records import flat

LEAST = {
    "num_envs": 1, "seed": 0, "stack": 1, "players": 1, "target_period": 0, "checkpoint_period": 1,
    "evaluation.period": 1, "evaluation.episodes": 1, "evaluation.video_seconds": 0,
    "network.hidden": 0, "network.dense": 0, "network.blocks": 0, "network.width": 1, "network.pooling": 0,
    "network.noise": 0, "network.memory_size": 1, "network.memory_layers": 1, "network.memory_window": 1,
    "network.memory_places": 1, "algorithm.n_steps": 1, "algorithm.unroll": 1, "algorithm.burn_in": 0,
    "algorithm.reward_clip": 0, "algorithm.shift": 0, "algorithm.intensity": 0, "algorithm.atoms": 2,
    "algorithm.quantiles": 1, "algorithm.samples": 1, "algorithm.jumps": 1,
    "algorithm.prediction_cost": 0, "algorithm.first_n_steps": 1, "algorithm.horizon_updates": 1,
    "optimiser.weight_decay": 0, "reset.period": 0, "algorithm.simulations": 1, "algorithm.considered": 1,
    "algorithm.support": 1, "algorithm.kappa": 0, "algorithm.value_cost": 0, "algorithm.entropy_cost": 0,
    "optimiser.epsilon": 0, "optimiser.clip_norm": 0, "bonus.weight": 0,
    "explore.steps": 0, "explore.begin": 0, "explore.until": 0, "explore.alpha": 0,
    "replay.capacity": 1, "replay.batch_size": 1, "replay.stride": 1, "replay.priority_exponent": 0,
    "replay.importance_exponent.start": 0, "replay.importance_exponent.end": 0, "replay.importance_exponent.steps": 0,
    "replay.importance_exponent.begin": 0, "replay.importance_exponent.until": 0, "rollout.epochs": 1,
    "rollout.minibatches": 1,
}  # fmt: skip
SHARES = {
    "evaluation.epsilon", "algorithm.discount", "algorithm.trace", "algorithm.scaling", "optimiser.decay",
    "target_tau", "reset.keep", "algorithm.first_discount", "bonus.discount",
    "bonus.train_share", "explore.start", "explore.end", "explore.base",
}  # fmt: skip
POSITIVE = {
    "optimiser.learning_rate", "algorithm.v_max", "algorithm.temperature", "algorithm.rho_max", "algorithm.c_max",
    "algorithm.reward_scale", "algorithm.value_scale", "target_tau", "replay.learn_period",
}  # fmt: skip


def check_ranges(x: Experiment) -> None:
    """Refuses numbers with which nothing can be learned, or nothing is what it is called.

    Raises:
        ValueError: naming the flag to change.
    """
    positive = POSITIVE | ({"algorithm.clip"} if isinstance(x.algorithm, PPO) else set())
    positive |= {"bonus.train_share"} if x.bonus.weight else set()
    least = LEAST | ({"target_period": 1} if x.replay is not None else {})
    for name, value in flat(to_json(x)).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        flag = f"--{name.replace('_', '-')}"
        if name in SHARES and not 0 <= value <= 1:
            raise ValueError(f"{flag} must be from 0 to 1, got {value}")
        if name in positive and not 0 < value < math.inf:
            raise ValueError(f"{flag} must be positive, got {value}")
        if name in least and not least[name] <= value < math.inf:
            none = ", which is none" * (least[name] == 0 and isinstance(value, float))
            raise ValueError(f"{flag} must be at least {least[name]}{none}, got {value}")
        if name == "algorithm.clip" and isinstance(x.algorithm, Munchausen | MunchausenIQN) and value > 0:
            raise ValueError(
                f"{flag} must be at most 0, got {value}: what is clipped is the logarithm of a probability"
            )
        if name in ("algorithm.discount", "algorithm.first_discount") and isinstance(x.algorithm, BBF) and value == 1:
            raise ValueError(f"{flag} must be less than 1: what moves by equal factors is its distance from 1")
        if not math.isfinite(value):
            raise ValueError(f"{flag} must be a number, got {value}")
