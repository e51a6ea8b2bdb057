"""A training whose players and replay are spread over a Ray cluster."""

from pathlib import Path
from typing import Any

import torch

from agents.agent import Agent
from experiments.config import Experiment
from experiments.distributed.cluster import connect, import_ray
from experiments.distributed.ray_players import RayPlayers
from experiments.distributed.ray_shards import RaySegments, RayShards
from experiments.distributed.setup import DistributedSetup


class RaySetup(DistributedSetup):
    """Players and shards are actors; the learner is the process that was started, where the run directory is."""

    def segments(self, folder: Path) -> Any:
        """The experience's rows on disk."""
        return RaySegments(folder, self.experience)


def make_setup(x: Experiment, agent: Agent, row: Any, device: torch.device) -> RaySetup:
    """Places shards and players on the cluster at RAY_ADDRESS, or on one that is started here.

    Args:
        row: an example of one player's rows.

    Raises:
        ValueError: there is no Ray, no cluster, or too small a one.
    """
    started = not import_ray().is_initialized()
    ray = connect(x.players)
    shards = RayShards(ray, x, agent.algorithm.length, row, device)
    return RaySetup(RayPlayers(ray, x, shards, device, started), agent, shards)
