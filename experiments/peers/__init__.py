"""What the benchmark compares with: other suites, and single-file agents as research scripts have them."""

from collections.abc import Callable
from dataclasses import replace

from experiments.config import Experiment

# Which presets have a counterpart there: the same network, batches and updates per agent step.
PEERS = {"sb3": ("dqn", "qrdqn", "ppo", "ppo-lstm"), "cleanrl": ("dqn", "c51", "rainbow", "ppo", "pqn")}


def play(peer: str, algorithm: str, game: str, learn_start: int, device: str, report: Callable[[int], bool]) -> None:
    """A peer trains until `report`, given the agent steps so far, says to stop. Single files know only the CPU.

    Raises:
        ValueError: the peer is not installed.
    """
    if peer == "sb3":
        from experiments.peers import sb3

        sb3.play(algorithm, game, learn_start, device, report)
        return
    from experiments.peers import on_policy, value_based

    for steps in (value_based.AGENTS | on_policy.AGENTS)[algorithm](game, learn_start):
        if not report(steps):
            return


def at_the_same_settings(x: Experiment) -> Experiment:
    """A preset with the steps, epochs, minibatches and, where it learns from rollouts, games that its peers have."""
    if x.preset == "pqn":  # 128 games here, 8 there
        assert x.rollout is not None
        algorithm = replace(x.algorithm, unroll=128)
        return replace(x, num_envs=8, algorithm=algorithm, rollout=replace(x.rollout, epochs=4, minibatches=4))
    return x
