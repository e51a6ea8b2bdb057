"""Initial priorities, from what the network said while it acted (Horgan et al. 2018, sec. 3)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.agent import Agent
from agents.sequence import Sequence, tree_map
from agents.transition import MultiStep
from envs.timestep import TimeStep


class Remembered(NamedTuple):
    """One row, as far as priorities depend on it."""

    step: TimeStep  # [n], without observation
    action: Tensor
    note: Any
    output: Any  # [n, ...] the network's


class Priorities:
    """Computes the algorithm's own priorities without another look at any frame.

    The loss is asked as in learning, but the network that it is given remembers its outputs: an observation is
    the number of the row where it was made. It stands for the target network, too, which players do not have.
    So priorities are those that the learner would find with the player's weights and a target network equal to them,
    and where a horizon moves (`BBF`), at its end.
    """

    def __init__(self, agent: Agent, stride: int, first_row: int):
        algorithm = agent.algorithm
        self.algorithm, self.stride = algorithm.plain if isinstance(algorithm, MultiStep) else algorithm, stride
        self.next_row = first_row
        self.rows: list[Remembered] = []
        self.output: Any = ()
        agent.acting.register_forward_hook(self._listen)

    def _listen(self, network: Any, inputs: Any, result: Any) -> None:
        self.output = tree_map(lambda x: x[0], result[0])  # acting is a sequence of one step

    def add(self, step: TimeStep, action: Tensor, note: Any) -> None:
        """Takes in a row, right after the network was asked for its action."""
        blank = torch.zeros(len(action), dtype=torch.int64)
        self.rows.append(Remembered(step._replace(obs=blank), action, note, self.output))
        self.next_row += 1

    @torch.no_grad()
    def of_last(self, count: int) -> Tensor:
        """Priorities float32 [count, n] of the sequences that the last rows complete; NaN where there is none."""
        length, games = self.algorithm.length, len(self.rows[0].action)
        found = torch.full((count, games), torch.nan)
        oldest, newest = self.next_row - len(self.rows), self.next_row - 1
        complete = range(max(newest - count - length + 2, oldest), newest - length + 2)
        begin = torch.tensor([row for row in complete if row % self.stride == 0])
        if len(begin):
            rows = tree_map(lambda *xs: torch.stack(xs), *self.rows)  # [rows, n, ...]
            place = begin - oldest + torch.arange(length)[:, None]  # [T, S]
            step, action, note = tree_map(lambda x: x[place].flatten(1, 2), rows[:3])  # [T, S * n, ...]
            step = step._replace(obs=(place[..., None] * games + torch.arange(games)).flatten(1, 2))
            outputs = tree_map(lambda x: x.flatten(0, 1), rows.output)
            weight = torch.ones(step.obs.shape[1])
            seq = Sequence(step, action, note, (), weight, torch.arange(len(weight)))

            def network(step: TimeStep, state: Any) -> tuple[Any, Any]:
                return tree_map(lambda x: x[step.obs], outputs), state

            priority = self.algorithm.loss(network, network, seq)[1]
            found[begin + length - 1 - (newest - count + 1)] = priority.view(len(begin), games).float()
        self.rows = self.rows[1 - length :]
        return found
