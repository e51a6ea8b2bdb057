"""For few samples: 100,000 agent steps in all (Kaiser et al. 2020), an update or more for each; a game at a time."""

from agents.bbf import BBF
from agents.c51 import C51
from agents.dqn import DQN
from agents.explore import Linear
from agents.optimiser import Adam
from agents.replay import ReplayConfig
from agents.reset import Reset
from agents.spr import SPR
from experiments.config import Evaluation, Experiment, NetworkConfig

# Van Hasselt et al. (2019), appendix, "data-efficient Rainbow", as in the code of Kaixhin: Rainbow with an update for
# every agent step, 20 steps, a smaller network and all of its experience. Deviation: a batch's draws are independent.
DATA_EFFICIENT = Experiment(
    preset="der",
    source="van Hasselt et al. 2019",
    algorithm=C51(discount=0.99, n_steps=20, double=True, reward_clip=1.0, atoms=51, v_max=10.0),
    optimiser=Adam(learning_rate=1e-4, epsilon=1.5e-4, clip_norm=10.0),
    network=NetworkConfig(torso="data-efficient", head="dueling", hidden=256, noise=0.1, initialisation="torch"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=ReplayConfig(
        capacity=100_000, batch_size=32, learn_start=1_600, learn_period=1,
        priority_exponent=0.5, importance_exponent=Linear(0.4, 1.0, steps=100_000),
    ),
    rollout=None,
    target_period=2_000,
    num_envs=1,
    protocol="atari100k",
    frames=400_000,
    evaluation=Evaluation(period=400_000, episodes=100),
)  # fmt: skip

# Kostrikov et al. (2021) with the epsilon of Agarwal et al. (2021), "DrQ(eps)", as in Dopamine (labs/atari_100k,
# DrQ_eps.gin): dueling DQN of 10 steps; images are moved by up to 4 pixels and made brighter or darker; targets are
# those of the network as it is before the update, for which their double Q is the plain maximum. Deviations:
# convolutions without padding, where theirs have it (--network.torso nature-padded); each stream has a hidden layer of
# its own; images stay bytes.
AUGMENTED = Experiment(
    preset="drq",
    source="Kostrikov et al. 2021",
    algorithm=DQN(
        discount=0.99, n_steps=10, double=False, reward_clip=1.0, error_loss="huber", shift=4, intensity=0.05
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=1.5e-4, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="dueling", hidden=512, initialisation="xavier"),
    explore=Linear(1.0, 0.01, steps=5_000, begin=1_600),
    replay=ReplayConfig(capacity=100_000, batch_size=32, learn_start=1_600, learn_period=1),
    rollout=None,
    target_period=1,
    num_envs=1,
    protocol="atari100k",
    frames=400_000,
    evaluation=Evaluation(period=400_000, episodes=100),
)

# Schwarzer et al. (2021), table of hyperparameters, with augmentation, and their code (scripts/run.py): Rainbow of 10
# steps with two updates for every agent step; noise of 0.1 as in the code, where the table has 0.5; random play until
# learning begins; the cost of 5 there is of the mean of the squared errors of unit vectors over five jumps, which is
# this one of their cosines' sum. Projections and predictions have no noise. Deviations: the transition model has no
# batch normalisation; gradients of it and of the rest have one norm, where theirs have one each; the dueling head's
# gradient is not scaled; the frame that a life or an episode ends with is foretold, too; images stay bytes; a batch's
# draws are independent.
SELF_PREDICTIVE = Experiment(
    preset="spr",
    source="Schwarzer et al. 2021",
    algorithm=SPR(
        discount=0.99, n_steps=10, double=True, reward_clip=1.0, atoms=51, v_max=10.0, shift=4, intensity=0.05, jumps=5,
        prediction_cost=2.0,
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=1.5e-4, clip_norm=10.0),
    network=NetworkConfig(
        torso="nature", renormalise=True, head="dueling", hidden=256, noise=0.1, initialisation="torch"
    ),
    explore=Linear(1.0, 0.0, steps=1, begin=2_000),
    replay=ReplayConfig(
        capacity=100_000, batch_size=32, learn_start=2_000, learn_period=0.5,
        priority_exponent=0.5, importance_exponent=Linear(0.4, 1.0, steps=100_000),
    ),
    rollout=None,
    target_period=1,
    num_envs=1,
    protocol="atari100k",
    frames=400_000,
    evaluation=Evaluation(period=400_000, episodes=100),
)  # fmt: skip

# D'Oro et al. (2023), "SR-SPR" with a replay ratio of 8, as Schwarzer et al. released it (google-research,
# bigger_better_faster, SR_SPR.gin), who have no noise, for it hurt: the weights begin anew every 5,000 agent steps, of
# those of the torso and the transition model 0.8 stay; a running mean of the network plays, and is the target; one
# hidden layer for both streams. Deviations: targets' images are moved by up to 4 pixels both ways, where theirs go from
# -4 to 3; images stay bytes; weights begin anew between two updates of one agent step; returns bootstrap from n steps
# later, where theirs do from n - 1 with the discount of n; importance weights are scaled for each batch, where theirs
# are for all of one agent step; the last frame of a life is foretold, too.
SCALED_SELF_PREDICTIVE = Experiment(
    preset="sr-spr",
    source="D'Oro et al. 2023",
    algorithm=SPR(
        discount=0.99, n_steps=10, double=True, reward_clip=1.0, atoms=51, v_max=10.0, priority="loss", shift=4,
        intensity=0.05, jumps=5, prediction_cost=2.0,
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=1.5e-4, clip_norm=0.0),
    network=NetworkConfig(
        torso="nature-padded", renormalise=True, dense=512, head="dueling", hidden=0, initialisation="xavier"
    ),
    explore=Linear(1.0, 0.0, steps=2_001, begin=2_000),
    replay=ReplayConfig(
        capacity=200_000, batch_size=32, learn_start=2_000, learn_period=0.125,
        priority_exponent=0.5, importance_exponent=Linear(0.5, 0.5, steps=0),
    ),
    rollout=None,
    target_period=1,
    target_tau=0.005,
    target_acts=True,
    reset=Reset(period=5_000, keep=0.8),
    num_envs=1,
    protocol="atari100k",
    frames=400_000,
    evaluation=Evaluation(period=400_000, episodes=100),
)  # fmt: skip

# Schwarzer et al. (2023), table of hyperparameters and released code (ibid., BBF.gin), with the replay ratio of 2 that
# the code has; their best results, six hours on an A100, are of 8 (--replay.learn-period 0.125 --reset.period 5000).
# Deviations: as above, and pools are padded on every side, where theirs are on two.
BIGGER = Experiment(
    preset="bbf",
    source="Schwarzer et al. 2023",
    algorithm=BBF(
        discount=0.997, n_steps=3, double=True, reward_clip=1.0, atoms=51, v_max=10.0, priority="loss", shift=4,
        intensity=0.05, jumps=5, prediction_cost=2.0, first_n_steps=10, first_discount=0.97, horizon_updates=10_000,
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=1.5e-4, clip_norm=0.0, weight_decay=0.1),
    network=NetworkConfig(
        torso="impala", width=4, blocks=2, renormalise=True, dense=2_048, head="dueling", hidden=0,
        initialisation="xavier",
    ),
    explore=Linear(1.0, 0.0, steps=2_001, begin=2_000),
    replay=ReplayConfig(
        capacity=200_000, batch_size=32, learn_start=2_000, learn_period=0.5,
        priority_exponent=0.5, importance_exponent=Linear(0.5, 0.5, steps=0),
    ),
    rollout=None,
    target_period=1,
    target_tau=0.005,
    target_acts=True,
    reset=Reset(period=20_000, keep=0.5),
    num_envs=1,
    protocol="atari100k",
    frames=400_000,
    evaluation=Evaluation(period=400_000, episodes=100),
)  # fmt: skip

PRESETS = (DATA_EFFICIENT, AUGMENTED, SELF_PREDICTIVE, SCALED_SELF_PREDICTIVE, BIGGER)
