"""Policy gradients.

Written out in full: a preset derived from another changes when the other does.
"""

from agents.explore import Linear
from agents.optimiser import Adam
from agents.ppo import PPO
from agents.rollout import RolloutConfig
from experiments.config import Experiment, NetworkConfig

# Schulman et al. (2017), table 5 of the appendix, as CleanRL has it (ppo_atari.py): learning rate annealed to 0,
# gradient norm at most 0.5, orthogonal weights. Deviation: no fire button is pressed at the start.
ATARI = Experiment(
    preset="ppo",
    source="Schulman et al. 2017",
    algorithm=PPO(
        discount=0.99, trace=0.95, unroll=128, clip=0.1, clip_value=True, value_cost=0.5, entropy_cost=0.01,
        reward_clip=1.0,
    ),
    optimiser=Adam(learning_rate=2.5e-4, epsilon=1e-5, clip_norm=0.5, anneal=True),
    network=NetworkConfig(torso="nature", hidden=512, initialisation="orthogonal"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=4, minibatches=4),
    target_period=0,
    num_envs=8,
    protocol="nature",
    frames=40_000_000,
)  # fmt: skip

# The same with an LSTM of 128 units behind a dense layer, one frame at a time, minibatches of whole games: CleanRL's
# ppo_atari_lstm.py. Deviation: as above.
ATARI_LSTM = Experiment(
    preset="ppo-lstm",
    source="Schulman et al. 2017",
    algorithm=PPO(
        discount=0.99, trace=0.95, unroll=128, clip=0.1, clip_value=True, value_cost=0.5, entropy_cost=0.01,
        reward_clip=1.0,
    ),
    optimiser=Adam(learning_rate=2.5e-4, epsilon=1e-5, clip_norm=0.5, anneal=True),
    network=NetworkConfig(
        torso="nature", dense=512, memory="lstm", memory_size=128, memory_bias=0.0, history=False, hidden=0,
        initialisation="orthogonal",
    ),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=4, minibatches=4, shuffle="games"),
    target_period=0,
    num_envs=8,
    protocol="nature",
    frames=40_000_000,
    stack=1,
)  # fmt: skip

PRESETS = (ATARI, ATARI_LSTM)
