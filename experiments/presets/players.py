"""Made for many players (`--distributed`); all of them play in one process, too.

Written out in full: a preset derived from another changes when the other does.
"""

from agents.dqn import DQN
from agents.explore import Ladder, Linear
from agents.optimiser import RMSProp
from agents.replay import ReplayConfig
from experiments.config import Experiment, NetworkConfig

# Horgan et al. (2018), sec. 4.1 and appendix C: double Q, dueling, 3 steps, batches of 512, an epsilon for each of the
# games, priorities of new steps from the players, the target network every 2,500 updates. Their learner takes 19
# batches a second while 360 players see 50,000 frames a second, which is one update per 658 agent steps. 14 GB of
# frames. Deviations: 256 games instead of 360, which 32 or 256 players share equally; players have weights of a few
# blocks of up to 16 steps ago, where theirs are up to 100 steps old; played in one process, a new step gets the largest
# priority so far; the target network's first copy comes after 2,425 updates. Their loss is half of the squared error:
# our gradients are twice theirs, and so are the bound and the root of epsilon.
FULL = Experiment(
    preset="apex-dqn",
    source="Horgan et al. 2018",
    algorithm=DQN(discount=0.99, n_steps=3, double=True, reward_clip=1.0, error_loss="squared"),
    optimiser=RMSProp(learning_rate=2.5e-4 / 4, decay=0.95, epsilon=2**2 * 1.5e-7, clip_norm=2 * 40.0),
    network=NetworkConfig(torso="nature", head="dueling", hidden=512, initialisation="torch"),
    explore=Ladder(num_envs=256, base=0.4, alpha=7.0),
    replay=ReplayConfig(
        capacity=2_000_000, batch_size=512, learn_start=50_000, learn_period=658,
        priority_exponent=0.6, importance_exponent=Linear(0.4, 0.4, steps=0),
        initial_priority="player",
    ),
    rollout=None,
    target_period=2_500,
    num_envs=256,
    protocol="nature",
    players=32,
    frames=10_000_000_000,
)  # fmt: skip

# The same for one machine with 4 players of 8 games each, not published: every step is learned from as often as in DQN
# (8 times), in batches of 128, with Huber's error; a new step gets the largest priority so far, as in one process.
SMALL = Experiment(
    preset="apex-dqn-small",
    source="not published settings",
    algorithm=DQN(discount=0.99, n_steps=3, double=True, reward_clip=1.0, error_loss="huber"),
    optimiser=RMSProp(learning_rate=2.5e-4 / 4, decay=0.95, epsilon=1.5e-7, clip_norm=40.0),
    network=NetworkConfig(torso="nature", head="dueling", hidden=512, initialisation="torch"),
    explore=Ladder(num_envs=32, base=0.4, alpha=7.0),
    replay=ReplayConfig(
        capacity=1_000_000, batch_size=128, learn_start=20_000, learn_period=16,
        priority_exponent=0.6, importance_exponent=Linear(0.4, 0.4, steps=0),
    ),
    rollout=None,
    target_period=2_500,
    num_envs=32,
    protocol="machado",
    players=4,
)  # fmt: skip

PRESETS = (FULL, SMALL)
