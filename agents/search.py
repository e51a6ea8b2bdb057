"""Planning where the rules are known: the search of Gumbel AlphaZero (Danihelka et al. 2022), many games at once.

Two players move in turn, so that what a position is worth to one is the opposite of what it is worth to the other.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

NEVER = -1e9  # what stands for the logarithm of 0


class Plan(NamedTuple):
    """What a search found, for each of N positions."""

    action: Tensor  # int64 [N]
    policy: Tensor  # float [N, A], improved (ibid., eq. 11): what the network's should be
    value: Tensor  # float [N], of the improved policy
    visits: Tensor  # int64 [N, A], simulations that began with each action


def considered_visits(considered: int, simulations: int) -> list[int]:
    """For each simulation how often its first action must have been tried before: sequential halving (ibid., fig. 1).

    At first all that are considered are tried in turn; then the better half of them, and so on, with about as many
    simulations for every phase.
    """
    if considered <= 1:
        return list(range(simulations))
    phases = math.ceil(math.log2(considered))
    tried, left = [0] * considered, considered
    found: list[int] = []
    while len(found) < simulations:
        for _ in range(max(1, simulations // (phases * left))):
            found += tried[:left]
            tried[:left] = [count + 1 for count in tried[:left]]
        left = max(2, left // 2)
    return found[:simulations]


def completed_values(log_prior: Tensor, value: Tensor, visits: Tensor, total: Tensor) -> Tensor:
    """Q(s, a), and where an action was not tried what the rest says of it (ibid., eqs. 10 and 33): [..., A].

    Args:
        log_prior: float [..., A], the network's policy.
        value: float [...], what the network says of the position.
        visits, total: float [..., A], how often each action was tried, and the sum of what came of it.
    """
    q, tried = total / visits.clamp(min=1), visits > 0
    prior, count = log_prior.exp() * tried, visits.sum(-1)
    mean = (prior * q).sum(-1) / prior.sum(-1).clamp(min=torch.finfo(prior.dtype).tiny)
    mixed = (value + count * mean) / (1 + count)
    return torch.where(tried, q, mixed[..., None])


def sigma(q: Tensor, visits: Tensor, scale: float, visits_at_least: float = 50.0) -> Tensor:
    """(c_visit + max_b N(b)) c_scale q (ibid., eq. 8): values [..., A] in units of logits."""
    return (visits_at_least + visits.amax(-1, keepdim=True)) * scale * q


class Tree:
    """Positions that were reached from N roots: node 0 of each, and one more from every simulation.

    Args:
        rules: as `envs.board.Row`.
        ask: positions uint8 [N, ...] to the network's (logits [N, A], value [N]).
    """

    def __init__(self, rules: Any, ask: Callable[[Tensor], tuple[Tensor, Tensor]], obs: Tensor, simulations: int):
        self.rules, self.ask = rules, ask
        logits, value = ask(obs)
        batch, actions = logits.shape
        self.games = torch.arange(batch, device=obs.device)
        size = (simulations + 1, batch)
        self.boards = obs.new_empty(simulations + 1, *obs.shape)
        self.log_prior = logits.new_empty(*size, actions)
        self.value, self.earned = logits.new_zeros(size), logits.new_zeros(size)  # `earned` on the way to a node
        self.over = torch.zeros(size, dtype=torch.bool, device=obs.device)
        self.child = torch.zeros(*size, actions, dtype=torch.int64, device=obs.device)  # 0, the root, is nobody's
        self.visits, self.total = logits.new_zeros(*size, actions), logits.new_zeros(*size, actions)
        self.keep(0, obs, logits, value)

    def keep(self, node: int, obs: Tensor, logits: Tensor, value: Tensor) -> None:
        """Notes positions as a node of each game."""
        self.boards[node] = obs
        self.log_prior[node] = logits.masked_fill(~self.legal(obs), NEVER).log_softmax(-1)
        self.value[node] = value

    def legal(self, obs: Tensor) -> Tensor:
        """What may be done: bool [N, A]."""
        return self.rules.legal(obs[:, 0])

    def at(self, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(log policy, completed values, visits), each [N, A], of a node of each game, int64 [N]."""
        place = node, self.games
        visits = self.visits[place]
        return self.log_prior[place], completed_values(
            self.log_prior[place], self.value[place], visits, self.total[place]
        ), visits  # fmt: skip

    def inside(self, node: Tensor, scale: float) -> Tensor:
        """The action below a root: that which brings visits nearest to the improved policy (ibid., eq. 14)."""
        log_prior, q, visits = self.at(node)
        policy = (log_prior + sigma(q, visits, scale)).softmax(-1)
        wanted = policy - visits / (1 + visits.sum(-1, keepdim=True))
        return wanted.masked_fill(log_prior < NEVER / 2, -math.inf).argmax(-1)

    def simulate(self, node: int, action: Tensor, scale: float) -> None:
        """Goes down from every root by an action [N] to what is new, makes it `node`, and tells all on the way."""
        parent, going, path = torch.zeros_like(action), torch.ones_like(action, dtype=torch.bool), []
        while True:
            path.append((parent, action, going))
            below = self.child[parent, self.games, action]
            going = going & (below > 0) & ~self.over[below, self.games]
            if not going.any():
                break
            # Games that have arrived stay where they are.
            parent = torch.where(going, below, parent)
            action = torch.where(going, self.inside(parent, scale), action)
        below = self.child[parent, self.games, action]
        again = below > 0  # the end of a game, which was there before
        obs = self.boards[parent, self.games]
        board, reward, over = self.rules.play(obs[:, 0], action)
        obs = board[:, None]
        self.keep(node, obs, *self.ask(obs))
        self.earned[node], self.over[node] = reward, over
        reached = torch.where(again, below, node)
        self.child[parent, self.games, action] = reached
        place = reached, self.games
        worth = self.earned[place] - torch.where(self.over[place], 0.0, self.value[place])
        for above, chosen, passed in reversed(path):
            edge = above, self.games, chosen
            self.visits[edge] += passed
            self.total[edge] += worth * passed
            worth = torch.where(passed, -worth, worth)


def search(
    rules: Any, ask: Callable[[Tensor], tuple[Tensor, Tensor]], obs: Tensor, simulations: int, considered: int,
    scale: float, gumbel: Tensor,
) -> Plan:  # fmt: skip
    """Plans from N positions (ibid., algorithm 1 and 2).

    Args:
        rules: as `envs.board.Row`.
        ask: positions uint8 [N, 1, ...] to the network's (logits [N, A], value [N]).
        obs: uint8 [N, 1, ...].
        considered: actions that are tried at the root, at most.
        scale: c_scale of `sigma`.
        gumbel: float [N, A], noise by which actions are drawn without replacement; 0 for the best.
    """
    tree = Tree(rules, ask, obs, simulations)
    log_prior = tree.log_prior[0]
    allowed = log_prior > NEVER / 2
    tables = torch.tensor([considered_visits(m, simulations) for m in range(considered + 1)], device=obs.device)
    table = tables[allowed.sum(-1).clamp(max=considered)]  # [N, simulations]

    roots = torch.zeros_like(tree.games)

    def best(visits: Tensor) -> Tensor:
        """The best action of those that were tried so often, [N, 1]."""
        prior, q, tried = tree.at(roots)
        score = gumbel + prior + sigma(q, tried, scale)
        return score.masked_fill((tried != visits) | ~allowed, -math.inf).argmax(-1)

    for i in range(simulations):
        tree.simulate(i + 1, best(table[:, i : i + 1]), scale)
    action = best(tree.visits[0].amax(-1, keepdim=True))
    prior, q, visits = tree.at(roots)
    policy = (prior + sigma(q, visits, scale)).softmax(-1)
    return Plan(action, policy, (policy * q).sum(-1), visits.long())
