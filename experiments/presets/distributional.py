"""Value distributions, Munchausen, and the two that combine them all: Rainbow and Beyond The Rainbow.

Written out in full: a preset derived from another changes when the other does.
Unless they say otherwise they play 8 games at once instead of one; the replay ratio, in updates per agent
step, stays as published.
"""

from agents.c51 import C51
from agents.explore import Linear
from agents.iqn import IQN
from agents.munchausen import Munchausen, MunchausenIQN
from agents.optimiser import Adam
from agents.qrdqn import QRDQN
from agents.replay import ReplayConfig
from experiments.config import Evaluation, Experiment, NetworkConfig

# Bellemare et al. (2017), sec. 5, with DQN Zoo's constants (dqn_zoo/c51/run_atari.py): target every 40,000
# frames, gradient norm at most 10. Deviation: 8 games.
CATEGORICAL = Experiment(
    preset="c51",
    source="Bellemare et al. 2017",
    algorithm=C51(discount=0.99, n_steps=1, double=False, reward_clip=1.0, atoms=51, v_max=10.0),
    optimiser=Adam(learning_rate=2.5e-4, epsilon=0.01 / 32, clip_norm=10.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="torch"),
    explore=Linear(1.0, 0.01, steps=1_000_000, begin=50_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=50_000, learn_period=4),
    rollout=None,
    target_period=2_500,
    num_envs=8,
    protocol="nature",
)

# Dabney et al. (2018a), sec. 5 and table 2 of the appendix ("QR-DQN-1"); learning begins after 50,000 agent
# steps and the target follows every 40,000 frames as in DQN Zoo. Deviation: 8 games.
QUANTILE = Experiment(
    preset="qrdqn",
    source="Dabney et al. 2018a",
    algorithm=QRDQN(discount=0.99, n_steps=1, double=False, reward_clip=1.0, quantiles=200, kappa=1.0),
    optimiser=Adam(learning_rate=5e-5, epsilon=0.01 / 32, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="torch"),
    explore=Linear(1.0, 0.01, steps=1_000_000, begin=50_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=50_000, learn_period=4),
    rollout=None,
    target_period=2_500,
    num_envs=8,
    protocol="nature",
)

# Dabney et al. (2018b), sec. 4 and appendix, N = N' = 64; learning begins as in DQN (Mnih et al. 2015), where DQN Zoo
# lets it begin after 20,000 agent steps. Deviations: 8 games; 64 fractions also to act, where K is 32; the
# target's greedy action is by the fractions that its return is of, where theirs has its own.
IMPLICIT = Experiment(
    preset="iqn",
    source="Dabney et al. 2018b",
    algorithm=IQN(discount=0.99, n_steps=1, double=False, reward_clip=1.0, samples=64, kappa=1.0),
    optimiser=Adam(learning_rate=5e-5, epsilon=0.01 / 32, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="torch"),
    explore=Linear(1.0, 0.01, steps=1_000_000, begin=50_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=50_000, learn_period=4),
    rollout=None,
    target_period=2_500,
    num_envs=8,
    protocol="nature",
)

# Castro et al. (2018), Dopamine's JAX agents with the IMPALA encoder (implicit_quantile.gin): three steps,
# one update of 32 every 4 agent steps. For runs below 15 M frames, where it is ahead of Beyond The Rainbow.
# Deviations: 8 games; 64 fractions also to act, and one draw for the target's greedy action and its return; cosines of
# pi i from i = 0, as in the paper, where theirs begin with 1; all convolutions' weights are drawn alike and pools are
# padded on every side, where theirs draw each stage's first otherwise and pad on two.
IMPLICIT_IMPALA = Experiment(
    preset="iqn-impala",
    source="Castro et al. 2018 (Dopamine)",
    algorithm=IQN(discount=0.99, n_steps=3, double=False, reward_clip=1.0, samples=64, kappa=1.0),
    optimiser=Adam(learning_rate=5e-5, epsilon=0.01 / 32, clip_norm=0.0),
    network=NetworkConfig(torso="impala", head="linear", hidden=512, initialisation="variance"),
    explore=Linear(1.0, 0.01, steps=250_000, begin=20_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=20_000, learn_period=4),
    rollout=None,
    target_period=2_000,
    num_envs=8,
    protocol="machado",
)

# Vieillard et al. (2020), table 2 of the appendix: DQN with Adam, alpha 0.9, tau 0.03, l_0 -1.
# Deviations: 8 games; convolutions without padding, where Dopamine's, which they build on, have it
# (--network.torso nature-padded).
MUNCHAUSEN = Experiment(
    preset="munchausen",
    source="Vieillard et al. 2020",
    algorithm=Munchausen(discount=0.99, n_steps=1, reward_clip=1.0, scaling=0.9, temperature=0.03, clip=-1.0),
    optimiser=Adam(learning_rate=5e-5, epsilon=0.01 / 32, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="xavier"),
    explore=Linear(1.0, 0.01, steps=250_000, begin=20_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=20_000, learn_period=4),
    rollout=None,
    target_period=2_000,
    num_envs=8,
    protocol="machado",
)

# The same paper and table: M-IQN, one step. Deviations: 8 games; no padding, as above; 64 fractions also to act,
# and one draw for the target's policy and its return; cosines from i = 0; epsilon-greedy, where the released code draws
# its actions from the policy.
MUNCHAUSEN_IMPLICIT = Experiment(
    preset="m-iqn",
    source="Vieillard et al. 2020",
    algorithm=MunchausenIQN(
        discount=0.99, n_steps=1, reward_clip=1.0, samples=64, kappa=1.0, scaling=0.9, temperature=0.03, clip=-1.0
    ),
    optimiser=Adam(learning_rate=5e-5, epsilon=0.01 / 32, clip_norm=0.0),
    network=NetworkConfig(torso="nature", head="linear", hidden=512, initialisation="variance"),
    explore=Linear(1.0, 0.01, steps=250_000, begin=20_000),
    replay=ReplayConfig(capacity=1_000_000, batch_size=32, learn_start=20_000, learn_period=4),
    rollout=None,
    target_period=2_000,
    num_envs=8,
    protocol="machado",
)

# Hessel et al. (2018), table 1 and "The Integrated Agent": all six parts; beta to 1 over 50 M agent steps; the gradient
# norm's bound of 10 is that of dueling (Wang et al. 2016). Priorities are the divergence that the paper names: Dopamine
# and DQN Zoo have the loss (--algorithm.priority loss), which is nowhere near 0, so that what is new is drawn less
# often beside what is known. Deviations: 8 games; a batch's draws are independent.
RAINBOW = Experiment(
    preset="rainbow",
    source="Hessel et al. 2018",
    algorithm=C51(discount=0.99, n_steps=3, double=True, reward_clip=1.0, atoms=51, v_max=10.0),
    optimiser=Adam(learning_rate=6.25e-5, epsilon=1.5e-4, clip_norm=10.0),
    network=NetworkConfig(torso="nature", head="dueling", hidden=512, noise=0.5, initialisation="torch"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=ReplayConfig(
        capacity=1_000_000, batch_size=32, learn_start=20_000, learn_period=4,
        priority_exponent=0.5, importance_exponent=Linear(0.4, 1.0, steps=50_000_000),
    ),
    rollout=None,
    target_period=2_000,
    num_envs=8,
    protocol="nature",
)  # fmt: skip

# The same with the residual network of Espeholt et al. (2018): not a published setting, but that of many
# comparisons since (Schmidt & Schmied 2021 among them).
RAINBOW_IMPALA = Experiment(
    preset="rainbow-impala",
    source="not published settings",
    algorithm=C51(discount=0.99, n_steps=3, double=True, reward_clip=1.0, atoms=51, v_max=10.0),
    optimiser=Adam(learning_rate=6.25e-5, epsilon=1.5e-4, clip_norm=10.0),
    network=NetworkConfig(torso="impala", head="dueling", hidden=512, noise=0.5, initialisation="torch"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=ReplayConfig(
        capacity=1_000_000, batch_size=32, learn_start=20_000, learn_period=4,
        priority_exponent=0.5, importance_exponent=Linear(0.4, 1.0, steps=50_000_000),
    ),
    rollout=None,
    target_period=2_000,
    num_envs=8,
    protocol="machado",
)  # fmt: skip

# Clark et al. (2025), table of hyperparameters and released code: 64 games, one update of 256 per 64 agent steps;
# epsilon beside the noise, off after half of 200 M frames. Deviations: every part of an update and every action draws
# its own noise, where the released code keeps the online network's last one; one sum tree, not one per environment, and
# independent draws; the log-policy of the first step is the target network's, as in the Munchausen paper, where the
# released code takes the online one's; epsilon falls in a straight line, where it is 0.01 + 0.99 exp(-t / 2 M) in the
# released code, still 0.29 after 10 M frames, where ours is 0.01 from 8 M on; an episode that is cut short has a value
# after its end, where theirs has none; the target network's first copy comes after 375 updates, for ours counts the
# steps before learning. The released code exists in two versions: trees for each environment, ends without values and
# the importance exponent's rise from 0.4 (kept here) are of one; the other has one tree, such values, and an exponent
# of 0.2 throughout (--replay.importance-exponent.start 0.2, .end 0.2).
BTR = Experiment(
    preset="btr",
    source="Clark et al. 2025",
    algorithm=MunchausenIQN(
        discount=0.997, n_steps=3, reward_clip=1.0, samples=8, kappa=1.0, scaling=0.9, temperature=0.03, clip=-1.0
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=0.005 / 256, clip_norm=10.0),
    network=NetworkConfig(
        torso="impala", width=2, blocks=2, spectral_norm=True, pooling=6, head="dueling", hidden=512, noise=0.5,
        initialisation="torch",
    ),
    explore=Linear(1.0, 0.01, steps=2_000_000, until=25_000_000),
    replay=ReplayConfig(
        capacity=1 << 20, batch_size=256, learn_start=200_000, learn_period=64,
        priority_exponent=0.2, importance_exponent=Linear(0.4, 1.0, steps=50_000_000),
    ),
    rollout=None,
    target_period=500,
    num_envs=64,
    protocol="machado",
    evaluation=Evaluation(epsilon=0.01),
)  # fmt: skip

# For runs below 15 M frames, not published: four times the updates, an early start, a short exploration.
BTR_SHORT = Experiment(
    preset="btr-short",
    source="not published settings",
    algorithm=MunchausenIQN(
        discount=0.997, n_steps=3, reward_clip=1.0, samples=8, kappa=1.0, scaling=0.9, temperature=0.03, clip=-1.0
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=0.005 / 256, clip_norm=10.0),
    network=NetworkConfig(
        torso="impala", width=2, blocks=2, spectral_norm=True, pooling=6, head="dueling", hidden=512, noise=0.5,
        initialisation="torch",
    ),
    explore=Linear(1.0, 0.01, steps=250_000, until=1_250_000),
    replay=ReplayConfig(
        capacity=1 << 20, batch_size=256, learn_start=20_000, learn_period=16,
        priority_exponent=0.2, importance_exponent=Linear(0.4, 1.0, steps=2_500_000),
    ),
    rollout=None,
    target_period=500,
    num_envs=64,
    protocol="machado",
    frames=10_000_000,
    evaluation=Evaluation(epsilon=0.01),
)  # fmt: skip

PRESETS = (
    CATEGORICAL, QUANTILE, IMPLICIT, IMPLICIT_IMPALA, MUNCHAUSEN, MUNCHAUSEN_IMPLICIT, RAINBOW, RAINBOW_IMPALA, BTR,
    BTR_SHORT,
)  # fmt: skip
