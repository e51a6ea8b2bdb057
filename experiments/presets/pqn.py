"""Parallelised Q-networks."""

from agents.explore import Linear
from agents.optimiser import RAdam
from agents.pqn import PQN
from agents.rollout import RolloutConfig
from experiments.config import Evaluation, Experiment, NetworkConfig

# Gallici et al. (2025), table 5, and the released configuration (pqn_atari.yaml): 128 games, no sticky actions, a lost
# life is terminal. Deviations: no fire button is pressed at the start or after a lost life, where EnvPool does both,
# and no-ops precede games, not lives, too: of Breakout, theirs is the easier version; an episode that is cut short has
# a value after its end, theirs none; initial weights are torch's, where theirs are He's; a convolution's layer norm is
# over channels and places, as in CleanRL's version, where the authors' is over the channels of each place; a rollout's
# first step was chosen before the update that ended the one before; the squared error is not halved, which with RAdam
# only makes the bound on gradients half as high.
ATARI = Experiment(
    preset="pqn",
    source="Gallici et al. 2025",
    algorithm=PQN(discount=0.99, trace=0.65, unroll=32, reward_clip=1.0),
    optimiser=RAdam(learning_rate=2.5e-4, epsilon=1e-8, clip_norm=10.0, anneal=False),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, layer_norm=True, initialisation="torch"),
    explore=Linear(1.0, 0.001, steps=5_000_000),
    replay=None,
    rollout=RolloutConfig(epochs=2, minibatches=32),
    target_period=0,
    num_envs=128,
    protocol="nature",
)

# For ten minutes on two CPU cores; not published settings. Gallici et al. (2025), table 5 for Atari, but
# 16 games instead of 128, fewer minibatches, a higher learning rate, annealed, and a short
# exploration.
DEMO = Experiment(
    preset="demo",
    source="not published settings",
    algorithm=PQN(discount=0.99, trace=0.65, unroll=32, reward_clip=1.0),
    optimiser=RAdam(learning_rate=5e-4, epsilon=1e-8, clip_norm=10.0, anneal=True),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, layer_norm=True, initialisation="xavier"),
    explore=Linear(1.0, 0.01, steps=50_000),
    replay=None,
    rollout=RolloutConfig(epochs=2, minibatches=8),
    target_period=0,
    num_envs=16,
    protocol="machado",
    game="CrazyClimber",
    frames=500_000,
    # One evaluation, at the end; epsilon as in training, which gets an untrained network out of its loops.
    evaluation=Evaluation(period=500_000, episodes=8, epsilon=0.01, video_seconds=60),
)

PRESETS = (ATARI, DEMO)
