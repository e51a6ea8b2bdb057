"""Value-based agents that remember.

Written out in full: a preset derived from another changes when the other does.
"""

from agents.dqn import DQN
from agents.explore import Ladder, Linear
from agents.optimiser import Adadelta, Adam, RAdam
from agents.pqn import PQN
from agents.replay import ReplayConfig
from agents.rollout import RolloutConfig
from experiments.config import Evaluation, Experiment, NetworkConfig

# Hausknecht & Stone (2015), sec. 4 and 5: an LSTM in the place of the dense layer, one frame at a time, ten steps
# unrolled. Deviations: 8 games; the memory begins with what it was, where theirs is zero, and is kept for every tenth
# step, so that sequences begin there and not anywhere; both networks' constants, and evaluation's epsilon, are those of
# Mnih et al. (2015) where the paper says nothing, which others' copies of their code do not follow throughout: squared
# errors are not bounded there, every agent step pays for an update, and a lost life ends nothing; the first copy to the
# target network comes after 7,500 updates.
RECURRENT_DQN = Experiment(
    preset="drqn",
    source="Hausknecht & Stone 2015",
    algorithm=DQN(discount=0.99, n_steps=1, unroll=10, double=False, reward_clip=1.0, error_loss="huber"),
    optimiser=Adadelta(learning_rate=0.1, decay=0.95, epsilon=1e-6, clip_norm=10.0),
    network=NetworkConfig(
        torso="nature", memory="lstm", memory_size=512, memory_bias=0.0, history=False, head="linear", hidden=0,
        initialisation="torch",
    ),
    explore=Linear(1.0, 0.1, steps=1_000_000, begin=50_000),
    replay=ReplayConfig(capacity=400_000, batch_size=32, learn_start=50_000, learn_period=4, stride=10),
    rollout=None,
    target_period=10_000,
    num_envs=8,
    protocol="nature",
    stack=1,
    evaluation=Evaluation(epsilon=0.05),
)  # fmt: skip

# Kapturowski et al. (2019), table 2: sequences of 40 + 80 that begin every 40 steps, n = 5 (and five steps more, so
# that the last of the 80 have whole targets, too), an epsilon for each of 256 games. Their learner makes about 5
# updates a second while each player sees 260 frames (sec. 2.3), which is one update per 3,328 agent steps. 28 GB of
# frames, 0.4 GB of memories. Deviations: weights are the newest, with players those of a few blocks of 40 steps ago,
# where theirs are up to 400 steps old; sequences may cross the ends of episodes, where the memory clears; importance
# weights with exponent 0.6, which the published version's table has; sticky actions instead of no-ops; the reward that
# the network is told is clipped to [-1, 1]. Half of the squared errors summed over 80 steps, which their other
# constants are for (as in the code of SEED RL and Acme), is 40 times our mean: epsilon and the gradient's bound are
# divided by that. The dense layer before the LSTM is SEED RL's. The target network's first copy comes after 2,440
# updates.
FULL_R2D2 = Experiment(
    preset="r2d2",
    source="Kapturowski et al. 2019",
    algorithm=DQN(
        discount=0.997, n_steps=5, burn_in=40, unroll=80, double=True, reward_clip=0.0, value_rescaling=True,
        error_loss="squared",
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=1e-3 / 40, clip_norm=40.0 / 40),
    network=NetworkConfig(
        torso="nature", dense=512, memory="lstm", memory_size=512, memory_bias=1.0, history=True, head="dueling",
        hidden=512, initialisation="torch",
    ),
    explore=Ladder(num_envs=256, base=0.4, alpha=7.0),
    replay=ReplayConfig(
        capacity=4_000_000, batch_size=64, learn_start=200_000, learn_period=3_328, stride=40,
        priority_exponent=0.9, importance_exponent=Linear(0.6, 0.6, steps=0),
        initial_priority="player",
    ),
    rollout=None,
    target_period=2_500,
    num_envs=256,
    protocol="machado",
    players=32,
    frames=10_000_000_000,
)  # fmt: skip

# Kapturowski et al. (2019), table 2, for one machine: 16 games instead of 256, sequences of 20 + 40 + 5 instead
# of 40 + 80, every 20 steps, batches of 32 instead of 64, and one update per 16 agent steps. Sequences may cross
# the ends of episodes, where the memory clears. The sum over 40 steps is 20 times our mean.
SMALL_R2D2 = Experiment(
    preset="r2d2-small",
    source="not published settings",
    algorithm=DQN(
        discount=0.997, n_steps=5, burn_in=20, unroll=40, double=True, reward_clip=0.0, value_rescaling=True,
        error_loss="squared",
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=1e-3 / 20, clip_norm=40.0 / 20),
    network=NetworkConfig(
        torso="nature", dense=512, memory="lstm", memory_size=512, memory_bias=1.0, history=True, head="dueling",
        hidden=512, initialisation="torch",
    ),
    explore=Ladder(num_envs=16, base=0.4, alpha=7.0),
    replay=ReplayConfig(
        capacity=1_000_000, batch_size=32, learn_start=50_000, learn_period=16, stride=20,
        priority_exponent=0.9, importance_exponent=Linear(0.6, 0.6, steps=0),
        initial_priority="player",
    ),
    rollout=None,
    target_period=2_500,
    num_envs=16,
    protocol="machado",
    players=4,
)  # fmt: skip

# CleanRL's recurrent PQN for Atari (pqn_atari_envpool_lstm.py): one frame at a time, minibatches of whole games,
# learning rate annealed to 0; Gallici et al. (2025) have a GRU that is told the last action, and work Q(lambda) out
# again for every minibatch. Deviations from CleanRL's: the LSTM's initial weights are torch's, where theirs are
# orthogonal and its biases 0; a convolution's layer norm has a gain and a bias for each channel, theirs for each
# output; a rollout's first step was chosen before the update that ended the one before; a lost life does not clear the
# memory; Q(lambda) ends with an episode or a life, where in theirs the return's lambda part goes on into the next; no
# fire button, no-ops and episodes that are cut short, as `pqn`.
RECURRENT_PQN = Experiment(
    preset="pqn-lstm",
    source="Gallici et al. 2025, constants of CleanRL",
    algorithm=PQN(discount=0.99, trace=0.65, unroll=128, reward_clip=1.0),
    optimiser=RAdam(learning_rate=2.5e-4, epsilon=1e-8, clip_norm=0.5, anneal=True),
    network=NetworkConfig(
        torso="nature", dense=512, memory="lstm", memory_size=128, memory_bias=0.0, history=False, head="linear",
        hidden=0, layer_norm=True, initialisation="orthogonal",
    ),
    explore=Linear(1.0, 0.01, steps=1_000_000),
    replay=None,
    rollout=RolloutConfig(epochs=4, minibatches=4, shuffle="games"),
    target_period=0,
    num_envs=8,
    protocol="nature",
    frames=40_000_000,
    stack=1,
)  # fmt: skip

PRESETS = (RECURRENT_DQN, FULL_R2D2, SMALL_R2D2, RECURRENT_PQN)
