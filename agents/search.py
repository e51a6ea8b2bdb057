"""Planning with a model: the search of Gumbel AlphaZero and MuZero (Danihelka et al. 2022), many games at once."""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

NEVER = -1e9  # what stands for the logarithm of 0
LEAST_RANGE = 0.01  # that values are rescaled from, as Ye et al. (2021) released it: smaller differences mean nothing


class Model(Protocol):
    """What a search plans with. A position is whatever it takes for one: a tensor [N, ...]."""

    @property
    def discount(self) -> float:
        """Of what a step leads to; -1 where the other player moves next, to whom all is worth the opposite."""

    def judge(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, A], `NEVER` for what may not be done, and value [N] of positions."""

    def play(self, position: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions after actions, int64 [N], what they earn, float [N], and whether all is over then, bool [N]."""


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


def gumbel_noise(like: Tensor) -> Tensor:
    """Draws from Gumbel(0), as many as `like` has numbers."""
    return -torch.empty_like(like).exponential_().log()


class Tree:
    """Positions that were reached from N roots: node 0 of each, and one more from every simulation.

    Args:
        scale: c_scale of `sigma`.
        rescale: whether values count from 0 to 1, the least and the most that were found in the tree (Schrittwieser et
            al. 2020, eq. 5).
    """

    def __init__(self, model: Model, roots: Tensor, simulations: int, scale: float, rescale: bool):
        self.model, self.scale, self.rescale = model, scale, rescale
        logits, value = model.judge(roots)
        batch, actions = logits.shape
        self.games = torch.arange(batch, device=roots.device)
        size = (simulations + 1, batch)
        self.positions = roots.new_empty(simulations + 1, *roots.shape)
        self.log_prior = logits.new_empty(*size, actions)
        self.value, self.earned = logits.new_zeros(size), logits.new_zeros(size)  # `earned` on the way to a node
        self.over = torch.zeros(size, dtype=torch.bool, device=roots.device)
        self.child = torch.zeros(*size, actions, dtype=torch.int64, device=roots.device)  # 0, the root, is nobody's
        self.visits, self.total = logits.new_zeros(*size, actions), logits.new_zeros(*size, actions)
        self.least, self.most = value, value
        self.keep(0, roots, logits, value)

    def keep(self, node: int, position: Tensor, logits: Tensor, value: Tensor) -> None:
        """Notes positions as a node of each game."""
        self.positions[node], self.value[node] = position, value
        self.log_prior[node] = logits.log_softmax(-1)

    def at(self, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(log policy, completed values, visits), each [N, A], of a node of each game, int64 [N]."""
        place = node, self.games
        visits = self.visits[place]
        return self.log_prior[place], completed_values(
            self.log_prior[place], self.value[place], visits, self.total[place]
        ), visits  # fmt: skip

    def improved(self, log_prior: Tensor, q: Tensor, visits: Tensor) -> Tensor:
        """Logits of the improved policy (ibid., eq. 11), of what `at` gives: [N, A]."""
        if self.rescale:
            q = (q - self.least[:, None]) / (self.most - self.least).clamp(min=LEAST_RANGE)[:, None]
        return log_prior + sigma(q, visits, self.scale)

    def inside(self, node: Tensor) -> Tensor:
        """The action below a root: that which brings visits nearest to the improved policy (ibid., eq. 14)."""
        log_prior, q, visits = self.at(node)
        policy = self.improved(log_prior, q, visits).softmax(-1)
        wanted = policy - visits / (1 + visits.sum(-1, keepdim=True))
        return wanted.masked_fill(log_prior < NEVER / 2, -math.inf).argmax(-1)

    def simulate(self, node: int, action: Tensor) -> None:
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
            action = torch.where(going, self.inside(parent), action)
        below = self.child[parent, self.games, action]
        again = below > 0  # the end of a game, which was there before
        position, reward, over = self.model.play(self.positions[parent, self.games], action)
        self.keep(node, position, *self.model.judge(position))
        self.earned[node], self.over[node] = reward, over
        reached = torch.where(again, below, node)
        self.child[parent, self.games, action] = reached
        place = reached, self.games
        worth = self.earned[place] + self.model.discount * torch.where(self.over[place], 0.0, self.value[place])
        for above, chosen, passed in reversed(path):
            edge = above, self.games, chosen
            self.visits[edge] += passed
            self.total[edge] += worth * passed
            found = torch.where(passed, self.total[edge] / self.visits[edge], self.least)
            self.least, self.most = torch.minimum(self.least, found), torch.maximum(self.most, found)
            worth = torch.where(passed, self.earned[above, self.games] + self.model.discount * worth, worth)


class Plan(NamedTuple):
    """What a search found, for each of N positions."""

    action: Tensor  # int64 [N]
    policy: Tensor  # float [N, A], improved (ibid., eq. 11): what the network's should be
    value: Tensor  # float [N], of the improved policy
    tree: Tree

    @property
    def visits(self) -> Tensor:
        """Simulations that began with each action, int64 [N, A]."""
        return self.tree.visits[0].long()

    def line(self, place: int) -> list[int]:
        """The actions that were imagined most often after the best of one position, one after the other."""
        tree, node, action, found = self.tree, 0, int(self.action[place]), []
        while tree.visits[node, place].any():
            found.append(action)
            node = int(tree.child[node, place, action])
            action = int(tree.visits[node, place].argmax())
        return found


def search(
    model: Model, roots: Tensor, simulations: int, considered: int, scale: float, explores: bool, rescale: bool = False
) -> Plan:
    """Plans from N positions (ibid., algorithm 1 and 2).

    Args:
        considered: actions that are tried at the root, at most.
        scale, rescale: as in `Tree`.
        explores: whether these are drawn, by noise, without replacement; else they are the best.
    """
    tree = Tree(model, roots, simulations, scale, rescale)
    log_prior = tree.log_prior[0]
    gumbel = gumbel_noise(log_prior) if explores else torch.zeros_like(log_prior)
    allowed, considered = log_prior > NEVER / 2, min(considered, log_prior.shape[1])
    tables = torch.tensor([considered_visits(m, simulations) for m in range(considered + 1)], device=roots.device)
    table = tables[allowed.sum(-1).clamp(max=considered)]  # [N, simulations]
    root = torch.zeros_like(tree.games)

    def best(visits: Tensor) -> Tensor:
        """The best action of those that were tried so often, [N, 1]."""
        found = tree.at(root)
        score = gumbel + tree.improved(*found)
        return score.masked_fill((found[2] != visits) | ~allowed, -math.inf).argmax(-1)

    for i in range(simulations):
        tree.simulate(i + 1, best(table[:, i : i + 1]))
    action = best(tree.visits[0].amax(-1, keepdim=True))
    prior, q, visits = tree.at(root)
    policy = tree.improved(prior, q, visits).softmax(-1)
    return Plan(action, policy, (policy * q).sum(-1), tree)
