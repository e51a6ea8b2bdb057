"""To begin with in worlds other than Atari.

Written out in full: a preset derived from another changes when the other does.
"""

from agents.explore import Linear
from agents.optimiser import Adam
from agents.ppo import PPO
from agents.rollout import RolloutConfig
from experiments.config import Evaluation, Experiment, NetworkConfig

# The PPO that Gallici et al. (2025) compare with on MinAtar, as released (purejaxql, ppo_minatar.yaml), on the network
# of Young & Tian (2019), sec. 4; but with a hundred times their reward of entropy (0.01, theirs is 0.0001), one network
# for policy and values, where theirs are two, and the protocol of Young & Tian (sticky actions, six actions), where
# theirs has neither. So it is not the published baseline.
MINATAR = Experiment(
    preset="ppo-minatar",
    source="not published settings",
    algorithm=PPO(
        discount=0.99, trace=0.95, unroll=128, clip=0.2, clip_value=True, value_cost=0.5, entropy_cost=0.01,
        reward_clip=0.0,
    ),
    optimiser=Adam(learning_rate=5e-3, epsilon=1e-5, clip_norm=0.5, anneal=True),
    network=NetworkConfig(torso="minatar", hidden=128, initialisation="orthogonal"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=4, minibatches=8),
    target_period=0,
    num_envs=64,
    protocol="minatar",
    game="minatar/breakout",
    frames=10_000_000,
    stack=1,
    evaluation=Evaluation(period=1_000_000, episodes=64),
)  # fmt: skip

# Schulman et al. (2017), table 5, which is for Atari: not published settings for Doom. Rewards are not clipped but
# divided by 100, as Petrenko et al. (2020) have it for this scenario: an action costs 4, a shot 5 more, and the kill
# earns 106. For the other scenarios --algorithm.reward-scale 1; doom/health-gathering has a preset of its own.
DOOM = Experiment(
    preset="ppo-doom",
    source="not published settings",
    algorithm=PPO(
        discount=0.99, trace=0.95, unroll=128, clip=0.1, clip_value=True, value_cost=0.5, entropy_cost=0.01,
        reward_clip=0.0, reward_scale=0.01,
    ),
    optimiser=Adam(learning_rate=2.5e-4, epsilon=1e-5, clip_norm=0.5, anneal=True),
    network=NetworkConfig(torso="nature", hidden=512, initialisation="orthogonal"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=4, minibatches=4),
    target_period=0,
    num_envs=8,
    protocol="vizdoom",
    game="doom/basic",
    frames=4_000_000,
    evaluation=Evaluation(period=500_000, episodes=16),
)  # fmt: skip

# The same with a GRU, for doom/health-gathering: not published settings. The screen does not show how much health is
# left, and a medkit pays only by a later death: without a memory the same PPO learns to stand still (284 points after
# 1 M frames, random play 377, with the memory 1,750 to 2,100). The horizon is longer, for 100 health last 384 tics, 96
# actions. Values go up to 13, so their moves are not clipped to 0.1, with which two of three seeds had learned nothing
# after 400 k frames.
DOOM_GRU = Experiment(
    preset="ppo-doom-gru",
    source="not published settings",
    algorithm=PPO(
        discount=0.997, trace=0.95, unroll=128, clip=0.1, clip_value=False, value_cost=0.5, entropy_cost=0.01,
        reward_clip=0.0, reward_scale=0.01,
    ),
    optimiser=Adam(learning_rate=2.5e-4, epsilon=1e-5, clip_norm=0.5, anneal=True),
    network=NetworkConfig(torso="nature", memory="gru", memory_size=128, hidden=512, initialisation="orthogonal"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=4, minibatches=4, shuffle="games"),
    target_period=0,
    num_envs=16,
    protocol="vizdoom",
    game="doom/health-gathering",
    frames=1_000_000,
    evaluation=Evaluation(period=500_000, episodes=16),
)  # fmt: skip

# Moon et al. (2023), the PPO that they begin with (configs/ppo.yaml). Deviations: the network of Mnih et al. (2015),
# for theirs is an IMPALA four times as wide, which needs a GPU: --network.torso impala --network.width 4
# --network.dense 256 --network.hidden 1024 --network.layer-norm True; values are clipped and learned as they are, where
# theirs are not clipped and normalised by a moving average; advantages are normalised in each minibatch, where theirs
# are in the whole rollout; values' squared errors weigh half as much beside the policy's as theirs, and their head
# begins with gain 1, theirs with 0.1; Adam's epsilon is 1e-5, theirs 1e-8; an episode that is cut short has a value
# after its end, theirs has none.
CRAFTER = Experiment(
    preset="ppo-crafter",
    source="Moon et al. 2023",
    algorithm=PPO(
        discount=0.95, trace=0.65, unroll=512, clip=0.2, clip_value=True, value_cost=0.5, entropy_cost=0.01,
        reward_clip=0.0,
    ),
    optimiser=Adam(learning_rate=3e-4, epsilon=1e-5, clip_norm=0.5, anneal=False),
    network=NetworkConfig(torso="nature", hidden=512, initialisation="orthogonal"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=3, minibatches=8),
    target_period=0,
    num_envs=8,
    protocol="crafter",
    game="crafter",
    frames=1_000_000,
    stack=1,
    evaluation=Evaluation(period=250_000, episodes=32),
)  # fmt: skip

PRESETS = (MINATAR, DOOM, DOOM_GRU, CRAFTER)
