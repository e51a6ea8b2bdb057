"""Policy gradients.

Written out in full: a preset derived from another changes when the other does.
"""

from agents.curious import Bonus
from agents.explore import Linear
from agents.impala import IMPALA
from agents.optimiser import Adam, RMSProp
from agents.ppo import PPO
from agents.rollout import RolloutConfig
from experiments.config import Evaluation, Experiment, NetworkConfig

# Schulman et al. (2017) with CleanRL's constants (ppo_atari.py): learning rate annealed to 0, gradient norm at most
# 0.5, orthogonal weights. Beside table 5 of the paper's appendix, that is 4 epochs instead of 3, a clipping range that
# stays 0.1 instead of falling to 0, and a quarter of the values' squared error instead of all of it. Deviations: no
# fire button is pressed at the start; an episode that is cut short has a value after its end, where theirs has none.
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
# ppo_atari_lstm.py. Deviations: as above; the LSTM's initial weights are torch's, where theirs are orthogonal and its
# biases 0; a lost life does not clear the memory.
ATARI_LSTM = Experiment(
    preset="ppo-lstm",
    source="Huang et al. 2022 (CleanRL)",
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

# Espeholt et al. (2018), appendix, the table for Atari: the deep residual network on four frames, unrolls of 20,
# batches of 32, RMSProp (epsilon 0.01, as Such et al. 2019, table S6, and TorchBeast have it of them; their code for
# DMLab has 0.1) annealed to 0, gradient norm 40. Their loss is summed over the batch and ours averaged, so epsilon is
# divided by 32^2 and the norm by 32, which is the same update. Deviations: the mean square begins with 0, as
# TorchBeast's, where theirs begins with 1, which makes their first 300 updates smaller; 128 games in one loop instead
# of independent actors, so that a rollout is 0 to 3 updates old, and its first step 4 to 7; without a memory, the
# network does not see the last action and reward; an episode that is cut short has a value at its end, where theirs has
# none; pooling pads both sides of an even picture; weights begin as torch has them, where Sonnet's are truncated normal
# with biases of 0.
DEEP = Experiment(
    preset="impala",
    source="Espeholt et al. 2018",
    algorithm=IMPALA(
        discount=0.99, unroll=20, rho_max=1.0, c_max=1.0, value_cost=0.5, entropy_cost=0.01, reward_clip=1.0
    ),
    optimiser=RMSProp(
        learning_rate=6e-4, decay=0.99, centred=False, epsilon=0.01 / 32**2, clip_norm=40.0 / 32, anneal=True
    ),
    network=NetworkConfig(
        torso="impala", width=1, blocks=2, hidden=256, initialisation="torch"
    ),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=1, minibatches=4, shuffle="games"),
    target_period=0,
    num_envs=128,
    protocol="nature",
)  # fmt: skip

# Burda et al. (2019), tables 2 to 5 of the appendix, with CleanRL's constants where they differ (ppo_rnd_envpool.py;
# bounds on gradients and the value's change, normalised advantages and annealing are CleanRL's alone): 128 games,
# rollouts of 128 steps, a quarter of the steps trains the predictor, intrinsic returns that no episode ends with gamma
# 0.99 beside 0.999, weights 2 and 1 (here 1 and 1/2, for advantages are normalised), sticky actions, a lost life means
# nothing (as the authors have it; it ends CleanRL's episodes). Deviations: what is seen is normalised by the first
# rollout to begin with, not by 6,400 random steps; one hidden layer of 512 for policy and both values; normal instead
# of orthogonal weights in predictor and target; an episode that is cut short has a value after its end, where theirs
# has none; heads of values begin with gain 1, theirs with 0.01; an episode ends after 108,000 frames, where theirs does
# after 18,000; 200 M frames, over which the learning rate falls to 0, where they play 10 times as many (CleanRL 40).
CURIOUS = Experiment(
    preset="ppo-rnd",
    source="Burda et al. 2019",
    algorithm=PPO(
        discount=0.999, trace=0.95, unroll=128, clip=0.1, clip_value=True, value_cost=0.5, entropy_cost=0.001,
        reward_clip=1.0,
    ),
    optimiser=Adam(learning_rate=1e-4, epsilon=1e-5, clip_norm=0.5, anneal=True),
    network=NetworkConfig(torso="nature", hidden=512, initialisation="orthogonal"),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=4, minibatches=4),
    target_period=0,
    num_envs=128,
    protocol="machado",
    game="MontezumaRevenge",
    bonus=Bonus(weight=0.5, discount=0.99, train_share=0.25),
)  # fmt: skip

# For two CPU cores and three quarters of an hour; not published settings. PPO with 16 games and standardised pixels on
# a residual network at half the resolution, for which three epochs are enough; advantages over fewer steps and a tenth
# of CleanRL's reward of entropy, for sticky actions make the former noisy and the latter costly; twice its learning
# rate, gone after 10 M frames. On processors that multiply bfloat16 numbers, --precision bf16 is faster. Chosen on
# Pong, among the trials in experiments/evidence/laptop.
LAPTOP = Experiment(
    preset="laptop",
    source="not published settings",
    algorithm=PPO(
        discount=0.99, trace=0.9, unroll=128, clip=0.1, clip_value=False, value_cost=0.5, entropy_cost=0.001,
        reward_clip=1.0,
    ),
    optimiser=Adam(learning_rate=5e-4, epsilon=1e-5, clip_norm=0.5, anneal=True),
    network=NetworkConfig(
        torso="impala-small", blocks=1, standardise=True, hidden=256, initialisation="orthogonal"
    ),
    explore=Linear(0.0, 0.0, steps=0),
    replay=None,
    rollout=RolloutConfig(epochs=3, minibatches=8),
    target_period=0,
    num_envs=16,
    protocol="machado",
    game="Pong",
    frames=10_000_000,
    evaluation=Evaluation(period=10_000_000, episodes=16, video_seconds=60),
)  # fmt: skip

PRESETS = (ATARI, ATARI_LSTM, LAPTOP, DEEP, CURIOUS)
