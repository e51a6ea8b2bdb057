"""Value-based reference agents: one environment, batch-1 acting, a replay of whole stacks.

The settings are CleanRL's (Huang et al. 2022): dqn_atari, c51_atari and rainbow_atari. None of it is meant to be
fast, only to be what people run; the suite uses nothing of it but to compare with.
"""

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.peers.common import ReplayBuffer, Torso, make_env, played


def dqn(game: str, learn_start: int) -> Iterator[int]:
    """dqn_atari: yields agent steps."""
    env = make_env(game, 1)
    actions = int(env.single_action_space.n)  # type: ignore[attr-defined]

    def network() -> nn.Module:
        return nn.Sequential(Torso(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions))

    online, target = network(), network()
    target.load_state_dict(online.state_dict())
    optimiser = torch.optim.Adam(online.parameters(), lr=1e-4)
    replay = ReplayBuffer(20_000, 32)
    obs, _ = env.reset(seed=1)
    for step in range(1_000_000_000):
        action = np.array([env.single_action_space.sample()])
        if np.random.random() > 0.1:
            action = torch.argmax(online(torch.Tensor(obs)), dim=1).numpy()
        after, real, reward, over = played(env, obs, action)
        replay.add(obs, real, action, reward, over)
        obs = after
        if step > learn_start and step % 4 == 0:
            o, o2, a, r, d = replay.sample()
            with torch.no_grad():
                goal = r.flatten() + 0.99 * target(o2).max(dim=1).values * (1 - d.flatten())
            loss = F.mse_loss(goal, online(o).gather(1, a).squeeze())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 1_000 == 0:
                target.load_state_dict(online.state_dict())
        yield step + 1


def project(pmf: Tensor, support: Tensor, reward: Tensor, scale: Tensor) -> Tensor:
    """The categorical projection (Bellemare et al. 2017), a sample at a time."""
    low, high, n = float(support[0]), float(support[-1]), len(support)
    b = ((reward + scale * support).clamp(low, high) - low) / ((high - low) / (n - 1))
    lower, upper = b.floor().clamp(0, n - 1), b.ceil().clamp(0, n - 1)
    down = (upper + (lower == upper).float() - b) * pmf
    up = (b - lower) * pmf
    out = torch.zeros_like(pmf)
    for i in range(len(out)):
        out[i].index_add_(0, lower[i].long(), down[i])
        out[i].index_add_(0, upper[i].long(), up[i])
    return out


def c51(game: str, learn_start: int) -> Iterator[int]:
    """c51_atari: yields agent steps."""
    env = make_env(game, 1)
    actions, atoms = int(env.single_action_space.n), 51  # type: ignore[attr-defined]
    support = torch.linspace(-10, 10, atoms)

    def network() -> nn.Module:
        return nn.Sequential(Torso(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions * atoms))

    def act(net: nn.Module, obs: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pmf = torch.softmax(net(obs).view(len(obs), actions, atoms), dim=2)
        if action is None:
            action = torch.argmax((pmf * support).sum(2), 1)
        return action, pmf[torch.arange(len(obs)), action]

    online, target = network(), network()
    target.load_state_dict(online.state_dict())
    optimiser = torch.optim.Adam(online.parameters(), lr=2.5e-4, eps=0.01 / 32)
    replay = ReplayBuffer(20_000, 32)
    obs, _ = env.reset(seed=1)
    for step in range(1_000_000_000):
        action = np.array([env.single_action_space.sample()])
        if np.random.random() > 0.1:
            action = act(online, torch.Tensor(obs))[0].numpy()
        after, real, reward, over = played(env, obs, action)
        replay.add(obs, real, action, reward, over)
        obs = after
        if step > learn_start and step % 4 == 0:
            o, o2, a, r, d = replay.sample()
            with torch.no_grad():
                _, pmf = act(target, o2)
                goal = project(pmf, support, r, 0.99 * (1 - d))
            _, old = act(online, o, a.flatten())
            loss = (-(goal * old.clamp(min=1e-5, max=1 - 1e-5).log()).sum(-1)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 10_000 == 0:
                target.load_state_dict(online.state_dict())
        yield step + 1


class Noisy(nn.Module):
    """A linear layer whose weights have noise of their own each (Fortunato et al. 2018, sec. 3a), drawn when asked.

    That is what rainbow_atari draws, for both networks at every update; the paper, and this suite, factorise it.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.mu = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.sigma = nn.Parameter(torch.full((outputs, inputs), 0.5 * bound))
        self.mu_bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.sigma_bias = nn.Parameter(torch.full((outputs,), 0.5 * bound))
        self.reset_noise()

    def reset_noise(self) -> None:
        self.noise, self.noise_bias = torch.randn_like(self.mu), torch.randn_like(self.mu_bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.mu + self.sigma * self.noise, self.mu_bias + self.sigma_bias * self.noise_bias)


class RainbowNetwork(nn.Module):
    """Dueling streams of noisy layers over 51 atoms (Hessel et al. 2018)."""

    def __init__(self, actions: int, atoms: int):
        super().__init__()
        self.actions, self.atoms, self.torso = actions, atoms, Torso()
        self.value = nn.Sequential(Noisy(3136, 512), nn.ReLU(), Noisy(512, atoms))
        self.advantage = nn.Sequential(Noisy(3136, 512), nn.ReLU(), Noisy(512, actions * atoms))

    def forward(self, obs: Tensor) -> Tensor:
        x = self.torso(obs)
        value = self.value(x).view(-1, 1, self.atoms)
        advantage = self.advantage(x).view(-1, self.actions, self.atoms)
        return F.softmax(value + advantage - advantage.mean(dim=1, keepdim=True), dim=2)

    def reset_noise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, Noisy):
                layer.reset_noise()


class SegmentTree:
    """A binary tree in a Python list-like array, walked leaf by leaf."""

    def __init__(self, size: int):
        self.leaves = 1 << (size - 1).bit_length()
        self.tree = np.zeros(2 * self.leaves)

    def set(self, at: int, value: float) -> None:
        at += self.leaves
        self.tree[at] = value
        while at > 1:
            at //= 2
            self.tree[at] = self.tree[2 * at] + self.tree[2 * at + 1]

    def find(self, mass: float) -> int:
        at = 1
        while at < self.leaves:
            at *= 2
            if mass > self.tree[at]:
                mass -= self.tree[at]
                at += 1
        return at - self.leaves


def rainbow(game: str, learn_start: int) -> Iterator[int]:
    """rainbow_atari: yields agent steps."""
    env = make_env(game, 1)
    atoms, n_step, discount, alpha, beta = 51, 3, 0.99, 0.5, 0.4
    actions = int(env.single_action_space.n)  # type: ignore[attr-defined]
    support = torch.linspace(-10, 10, atoms)
    online, target = RainbowNetwork(actions, atoms), RainbowNetwork(actions, atoms)
    target.load_state_dict(online.state_dict())
    optimiser = torch.optim.Adam(online.parameters(), lr=6.25e-5, eps=1.5e-4)
    replay, tree, recent = ReplayBuffer(20_000, 32), SegmentTree(20_000), deque(maxlen=n_step)  # type: ignore[var-annotated]
    largest = 1.0
    obs, _ = env.reset(seed=1)
    for step in range(1_000_000_000):
        with torch.no_grad():
            action = (online(torch.Tensor(obs)) * support).sum(2).argmax(1).numpy()
        after, real, reward, over = played(env, obs, action)
        recent.append((obs[0], action[0], reward[0], over[0]))
        if len(recent) == n_step:
            total = sum(discount**i * row[2] for i, row in enumerate(recent))
            at = replay.add(recent[0][0], real[0], recent[0][1], total, any(row[3] for row in recent))
            tree.set(at, largest**alpha)
        obs = after
        if step > learn_start and step % 4 == 0:
            online.reset_noise()
            target.reset_noise()
            share = tree.tree[1] / 32
            at_ = np.array([tree.find((i + np.random.random()) * share) for i in range(32)])
            weight = (len(replay.obs) * tree.tree[at_ + tree.leaves] / tree.tree[1]) ** -beta
            o, o2, a, r, d = replay.take(at_)
            with torch.no_grad():
                best = (online(o2) * support).sum(2).argmax(1)
                goal = project(target(o2)[torch.arange(32), best], support, r, discount**n_step * (1 - d))
            old = online(o)[torch.arange(32), a.flatten()]
            losses = -(goal * (old + 1e-8).log()).sum(1)
            loss = (losses * torch.as_tensor(weight / weight.max(), dtype=torch.float32)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for i, priority in zip(at_, losses.detach().numpy(), strict=True):
                largest = max(largest, float(priority))
                tree.set(i, (float(priority) + 1e-6) ** alpha)
            if step % 8_000 == 0:
                target.load_state_dict(online.state_dict())
        yield step + 1


AGENTS = {"dqn": dqn, "c51": c51, "rainbow": rainbow}
