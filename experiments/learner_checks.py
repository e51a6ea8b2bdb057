"""Parts of an experiment that do not go together."""

from agents.alphazero import AlphaZero
from agents.curious import Bonus
from agents.explore import Ladder
from agents.impala import IMPALA
from agents.muzero import MuZero
from agents.ppo import PPO
from envs.library import GAMES, game_of
from experiments.config import Experiment, NetworkConfig


def check_learner(experiment: Experiment) -> None:
    """Refuses parts that do not go together: exploration, algorithm, memory and experience.

    Raises:
        ValueError: naming the flag to change.
    """
    if isinstance(experiment.explore, Ladder) and experiment.explore.num_envs != experiment.num_envs:
        raise ValueError(
            f"--explore.num-envs is {experiment.explore.num_envs} and --num-envs {experiment.num_envs}:"
            " the ladder has a rung for every game"
        )
    if isinstance(experiment.algorithm, MuZero):
        check_imagining(experiment)
    remembers, learns = experiment.network.memory != "none", type(experiment.algorithm).__name__
    if isinstance(experiment.algorithm, AlphaZero):
        check_rules(experiment)
    elif game_of(experiment.game).protocol(experiment.protocol).opponent == "self":
        raise ValueError(
            f"--protocol {experiment.protocol}: {learns} does not know that what one player wins the other loses; use"
            " random or minimax, or AlphaZero"
        )
    from_rollouts = hasattr(experiment.algorithm, "games_wait")  # as agents.agent.Algorithm has it
    if experiment.rollout is not None:
        if experiment.reset.period or experiment.target_acts or experiment.target_tau != 1:
            raise ValueError("--reset.period, --target-tau and --target-acts are for what learns from a replay")
        if not from_rollouts:
            raise ValueError(f"{learns} learns from a replay, not from rollouts")
        learner = "a network with memory" if remembers else learns
        if (remembers or isinstance(experiment.algorithm, IMPALA)) and experiment.rollout.shuffle != "games":
            raise ValueError(f"{learner} learns from whole games: --rollout.shuffle games")
    elif from_rollouts:
        raise ValueError(f"{learns} learns from rollouts, not from a replay")
    elif remembers and experiment.algorithm.unroll < 2:
        raise ValueError(
            "a memory learns from steps in a row: set --algorithm.unroll (such as 40) and --algorithm.burn-in"
        )


def check_rules(experiment: Experiment) -> None:
    """Refuses a search where there are no rules to search by, or another player than itself.

    Raises:
        ValueError: naming the flag to change.
    """
    game = game_of(experiment.game)
    if game.rules is None:
        known = ", ".join(name for name, other in GAMES.items() if other.rules is not None)
        raise ValueError(f"--game {experiment.game}: AlphaZero plans by a game's rules; those of {known} are known")
    if game.protocol(experiment.protocol).opponent != "self":
        raise ValueError(f"--protocol {experiment.protocol}: AlphaZero learns by playing itself; use self-play")
    if experiment.stack != 1 or experiment.network.memory != "none":
        raise ValueError("AlphaZero plans from the board alone: --stack 1 --network.memory none")


def check_imagining(experiment: Experiment) -> None:
    """Refuses what a learned model does not have.

    Raises:
        ValueError: naming the flag to change.
    """
    if experiment.network.memory != "none":
        raise ValueError(f"--network.memory {experiment.network.memory}: MuZero plans from what is seen; use none")
    if experiment.bonus.weight:
        raise ValueError("--bonus.weight: MuZero has no bonus; PPO has, and all that learn values from a replay have")
    if experiment.replay is not None and experiment.replay.initial_priority == "player":
        raise ValueError("--replay.initial-priority player: players do not know what MuZero imagines; use largest")


def check_bonus(experiment: Experiment) -> None:
    """Refuses an intrinsic reward where it means nothing.

    Raises:
        ValueError: naming the flag to change.
    """
    if experiment.bonus.weight and experiment.rollout is not None and type(experiment.algorithm) is not PPO:
        learns = type(experiment.algorithm).__name__
        raise ValueError(
            f"--bonus.weight: {learns} has no bonus; PPO has, and all that learn values from a replay have"
        )
    if experiment.bonus.weight and experiment.replay is not None:
        if experiment.bonus.discount != Bonus.discount:
            raise ValueError("--bonus.discount is for rollouts: from a replay, surprise is part of the reward")
        if experiment.algorithm.discount == 1:
            raise ValueError("--bonus.weight: the return of what never ends is endless; set --algorithm.discount 0.99")


def check_repeatable(network: NetworkConfig) -> None:
    """Refuses what cannot repeat itself on a GPU.

    Raises:
        ValueError: naming the flag to change.
    """
    if network.pooling:
        raise ValueError(
            "--deterministic: the gradient of adaptive max-pooling adds in no fixed order on CUDA;"
            " set --network.pooling 0, or do without --deterministic"
        )
    if network.memory == "dnc":
        raise ValueError(
            "--deterministic: the gradient of a dnc's cumulative product is not on CUDA; do without either"
        )
