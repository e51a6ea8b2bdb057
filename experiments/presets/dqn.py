"""DQN and its three classic additions: double, dueling, prioritised.

Written out in full: a preset derived from another changes when the other does.
All play 8 games at once instead of one; the replay ratio, in updates per agent step, stays as published.
"""

from agents.dqn import DQN
from agents.explore import Linear
from agents.optimiser import Adam, RMSProp
from agents.replay import ReplayConfig
from experiments.config import Evaluation, Experiment, NetworkConfig

# Castro et al. (2018), Dopamine, configuration "DQN with Adam and MSE" (jax/agents/dqn/configs/dqn.gin):
# what the field compares with today. Deviations: 8 games; convolutions without padding, as Mnih et al. (2015)
# have them, where Dopamine's are padded (--network.torso nature-padded).
MODERN = Experiment(
    preset="dqn",
    source="Castro et al. 2018 (Dopamine)",
    algorithm=DQN(discount=0.99, n_steps=1, double=False, reward_clip=1.0, error_loss="squared"),
    optimiser=Adam(learning_rate=6.25e-5, epsilon=1.5e-4, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="xavier"),
    explore=Linear(1.0, 0.01, steps=250_000, begin=20_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=20_000, learn_period=4),
    rollout=None,
    target_period=2_000,
    num_envs=8,
    protocol="machado",
)

# Mnih et al. (2015), Extended Data Table 1; the optimiser's epsilon for a mean loss as in DQN Zoo. The table counts the
# target period (10,000) in parameter updates, 40,000 agent steps; DQN Zoo takes 40,000 frames instead. We follow the
# table. Evaluated with epsilon 0.05 (ibid., Methods, "Evaluation procedure"). Deviations: evaluation episodes are cut
# after 108,000 frames, theirs after 18,000; the target network's first copy comes after 7,500 updates, for the steps
# before learning count, as in the field's code.
NATURE = Experiment(
    preset="dqn-nature",
    source="Mnih et al. 2015",
    algorithm=DQN(discount=0.99, n_steps=1, double=False, reward_clip=1.0, error_loss="huber"),
    optimiser=RMSProp(learning_rate=2.5e-4, decay=0.95, epsilon=0.01 / 32**2, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="torch"),
    explore=Linear(1.0, 0.1, steps=1_000_000, begin=50_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=50_000, learn_period=4),
    rollout=None,
    target_period=10_000,
    num_envs=8,
    protocol="nature",
    evaluation=Evaluation(epsilon=0.05),
)

# van Hasselt et al. (2016), appendix, "tuned" double DQN: target every 30,000 steps, epsilon to 0.01, in evaluation
# 0.001. Deviation: one bias per action in the last layer, where they share one.
DOUBLE = Experiment(
    preset="double-dqn",
    source="van Hasselt et al. 2016",
    algorithm=DQN(discount=0.99, n_steps=1, double=True, reward_clip=1.0, error_loss="huber"),
    optimiser=RMSProp(learning_rate=2.5e-4, decay=0.95, epsilon=0.01 / 32**2, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="torch"),
    explore=Linear(1.0, 0.01, steps=1_000_000, begin=50_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=50_000, learn_period=4),
    rollout=None,
    target_period=7_500,
    num_envs=8,
    protocol="nature",
)

# Wang et al. (2016), sec. 4.2: double DQN's settings, learning rate 6.25e-5, gradient norm at most 10.
# Deviations: the gradient into the last convolution is not scaled by 1/sqrt(2); the bound is on gradients of a mean,
# of a batch's sum it would be 32 times as large, and it hardly ever binds.
DUELING = Experiment(
    preset="dueling",
    source="Wang et al. 2016",
    algorithm=DQN(discount=0.99, n_steps=1, double=True, reward_clip=1.0, error_loss="huber"),
    optimiser=RMSProp(learning_rate=6.25e-5, decay=0.95, epsilon=0.01 / 32**2, clip_norm=10.0),
    network=NetworkConfig(torso="nature", head="dueling", hidden=512, initialisation="torch"),
    explore=Linear(1.0, 0.01, steps=1_000_000, begin=50_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=50_000, learn_period=4),
    rollout=None,
    target_period=7_500,
    num_envs=8,
    protocol="nature",
)

# Schaul et al. (2016), sec. 4 and appendix B.2.1, proportional: double DQN, a quarter of the learning rate (and, for a
# mean loss, a sixteenth of the optimiser's epsilon: DQN Zoo), alpha 0.6, beta 0.4 to 1 over 50 M agent steps.
# Deviations: no uniform part is mixed into the sampling, and its 32 draws are independent, where theirs are one from
# each 32nd of the priorities; importance weights multiply errors that are bounded already, where DQN Zoo bounds what
# they have multiplied; one bias per action in the last layer.
PRIORITIZED = Experiment(
    preset="prioritized",
    source="Schaul et al. 2016",
    algorithm=DQN(discount=0.99, n_steps=1, double=True, reward_clip=1.0, error_loss="huber"),
    optimiser=RMSProp(learning_rate=2.5e-4 / 4, decay=0.95, epsilon=0.01 / 32**2 / 16, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="torch"),
    explore=Linear(1.0, 0.01, steps=1_000_000, begin=50_000),
    replay=ReplayConfig(
        capacity=1_000_000, batch_size=32, learn_start=50_000, learn_period=4,
        priority_exponent=0.6, importance_exponent=Linear(0.4, 1.0, steps=50_000_000),
    ),
    rollout=None,
    target_period=7_500,
    num_envs=8,
    protocol="nature",
)  # fmt: skip

PRESETS = (MODERN, NATURE, DOUBLE, DUELING, PRIORITIZED)
