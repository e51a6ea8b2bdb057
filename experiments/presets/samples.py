"""For few samples: 100,000 agent steps in all (Kaiser et al. 2020), an update for each; one game, as published."""

from agents.c51 import C51
from agents.dqn import DQN
from agents.explore import Linear
from agents.optimiser import Adam
from agents.replay import ReplayConfig
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

PRESETS = (DATA_EFFICIENT, AUGMENTED)
