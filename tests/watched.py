"""A run to watch, made without training: an untrained agent with a memory and return distributions."""

from dataclasses import replace

import numpy as np
import torch

from envs.protocols import MACHADO
from experiments.build import build_agent, make_games
from experiments.files import write_json
from experiments.presets import PRESETS
from experiments.run import Run
from experiments.scoring import keep_recordings, score_agent
from experiments.viewer.player import Player

CPU = torch.device("cpu")
EXPERIMENT = replace(
    PRESETS["qrdqn"], game="Breakout", protocol="machado", num_envs=1, stack=1,
    algorithm=replace(PRESETS["qrdqn"].algorithm, quantiles=9),
    network=replace(PRESETS["qrdqn"].network, torso="nips", memory="lstm", memory_size=8, hidden=16),
)  # fmt: skip


def make_run(root, name="watched", experiment=EXPERIMENT):
    """A run directory with two checkpoints, and two training episodes and an evaluation recorded."""
    run = Run.create(root, experiment, name)
    torch.manual_seed(0)
    games = make_games(experiment, 1, CPU)
    agent = build_agent(experiment, games.observation_shape, games.num_actions, CPU)
    games.close()
    for agent_steps in (1_000, 2_000):
        run.save_checkpoint(agent.tensors(), {"agent_steps": agent_steps, "frames": 4 * agent_steps, "finished": True})
    result, recordings = score_agent(agent, experiment, 1, epsilon=0.9, seed=5, device=CPU)
    write_json(
        run.path / "evaluations/000000002000.json",
        result | {"frames": 8_000, "recordings": keep_recordings(run, "000000002000", recordings)},
    )
    first, second = two_episodes(agent, experiment)
    for number, recording in enumerate((first, second), 1):
        where = run.append_bytes("recordings/training.rec", recording.pack())
        steps = len(recording.actions) - recording.begin
        row = {"episode": number, "frames": 4_000 * number, "steps": steps, "score": recording.score}
        run.append("episodes.jsonl", row | {"game": 0, "recording": where})
    run.close()
    return run


def two_episodes(agent, experiment):
    """Two episodes in a row of one environment, so that the second begins inside its log."""
    from envs.protocols import PROTOCOLS
    from envs.recording import Recording

    games, found = make_games(experiment, 1, CPU), []
    games.reset(11)
    generator = np.random.default_rng(0)
    while len(found) < 2:
        step = games.step(torch.tensor([int(generator.integers(4))]))
        if step.last.item():
            found.append(Recording.of(experiment.game, PROTOCOLS[experiment.protocol], games.played(0)))
    games.close()
    return found


def watched(agent, seed, epsilon=0.9, recording=None):
    """A player of that run's game, begun."""
    player = Player(EXPERIMENT, MACHADO, CPU, agent, recording)
    player.start(seed, epsilon)
    return player
