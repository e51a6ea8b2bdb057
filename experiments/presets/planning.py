"""Agents that plan: with a game's rules, or with a model of it that they learn."""

from agents.alphazero import AlphaZero
from agents.explore import Linear
from agents.muzero import MuZero
from agents.optimiser import Adam
from agents.replay import ReplayConfig
from agents.rollout import RolloutConfig
from experiments.config import Evaluation, Experiment, NetworkConfig

# Silver et al. (2018) with the search of Danihelka et al. (2022), whose 16 considered moves of 32 simulations in board
# games are 8 here, and whose values are weighed between 0 and 1, here between -1 and 1; learned from rollouts of 64
# games as they are played, where theirs come from a replay; a small network without batch normalisation, and Adam. Not
# published settings.
ALPHAZERO = Experiment(
    preset="alphazero",
    source="not published settings",
    algorithm=AlphaZero(simulations=32, considered=8, value_scale=1.0, trace=1.0, unroll=32, value_cost=1.0),
    optimiser=Adam(learning_rate=1e-3, epsilon=1e-5, clip_norm=1.0, anneal=True, weight_decay=1e-4),
    network=NetworkConfig(torso="board", width=1, blocks=2, hidden=128, initialisation="orthogonal"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=4, minibatches=16, shuffle="steps"),
    target_period=0,
    num_envs=64,
    protocol="self-play",
    game="board/connect-four",
    frames=1_000_000,
    stack=1,
    checkpoint_period=50_000,
    evaluation=Evaluation(period=100_000, episodes=64),
)  # fmt: skip

# Schrittwieser et al. (2020) with the search of Danihelka et al. (2022), and features that are compared with those that
# came (Ye et al. 2021), on MinAtar's boards, which it is not published for: a network as small as they are, and a
# replay as short, for what was found long ago is not found anew.
MUZERO = Experiment(
    preset="muzero-minatar",
    source="not published settings",
    algorithm=MuZero(
        discount=0.99, simulations=16, considered=6, value_scale=0.1, n_steps=5, unroll=5, reward_clip=0.0, support=10,
        value_cost=0.25, prediction_cost=2.0,
    ),
    optimiser=Adam(learning_rate=1e-3, epsilon=1e-5, clip_norm=5.0),
    network=NetworkConfig(torso="minatar", renormalise=True, hidden=128, initialisation="torch"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=ReplayConfig(capacity=25_000, batch_size=64, learn_start=2_000, learn_period=8.0),
    rollout=None,
    target_period=1,
    num_envs=32,
    protocol="minatar",
    game="minatar/breakout",
    frames=200_000,
    stack=1,
    evaluation=Evaluation(period=100_000, episodes=64),
)  # fmt: skip

PRESETS = (ALPHAZERO, MUZERO)
