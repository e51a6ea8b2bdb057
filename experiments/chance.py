"""How a player who chooses by chance scores: what every agent must beat."""

from typing import Any

import torch
from torch import Tensor

from experiments.build import make_games
from experiments.config import Experiment
from experiments.loop import evaluate
from experiments.scoring import EVALUATION_GAMES


class Chance:
    """Acts like an agent; every action is as likely as any other."""

    def __init__(self, num_actions: int, seed: int):
        self.num_actions = num_actions
        self.generator = torch.Generator().manual_seed(seed)

    def initial_state(self, batch: int) -> Any:
        return ()

    def act(self, step: Any, state: Any, epsilon: float | Tensor) -> tuple[Tensor, Any, Any]:
        return torch.randint(self.num_actions, step.first.shape, generator=self.generator), (), ()


def random_scores(experiment: Experiment, episodes: int, seed: int = 0) -> list[float]:
    """Raw scores of whole episodes played by chance, under the experiment's protocol."""
    games = make_games(experiment, min(EVALUATION_GAMES, episodes), torch.device("cpu"))
    player: Any = Chance(games.num_actions, seed)
    scores = [episode.score for episode in evaluate(player, games, episodes, 1.0, seed)]
    games.close()
    return scores
