"""On-policy reference agents with eight environments.

The settings are CleanRL's (Huang et al. 2022): ppo_atari and pqn_atari_envpool, the latter with ale-py's own vector
environment in envpool's place. The suite uses nothing of it but to compare with.
"""

from collections.abc import Iterator

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from torch import Tensor, nn
from torch.nn import functional as F

from envs.atari import rom_of
from experiments.peers.common import Torso, init, make_env, played


class ActorCritic(nn.Module):
    """One torso, two heads."""

    def __init__(self, actions: int):
        super().__init__()
        self.shared = nn.Sequential(Torso(), init(nn.Linear(3136, 512)), nn.ReLU())
        self.actor, self.critic = init(nn.Linear(512, actions), 0.01), init(nn.Linear(512, 1), 1.0)

    def forward(self, obs: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.shared(obs)
        policy = torch.distributions.Categorical(logits=self.actor(x))
        action = policy.sample() if action is None else action
        return action, policy.log_prob(action), policy.entropy(), self.critic(x)


def ppo(game: str, learn_start: int) -> Iterator[int]:
    """ppo_atari: yields agent steps."""
    env = make_env(game, 8)
    agent = ActorCritic(int(env.single_action_space.n))  # type: ignore[attr-defined]
    optimiser = torch.optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
    obs = torch.zeros(128, 8, 4, 84, 84)
    action, log_prob, reward, over, value = (torch.zeros(128, 8) for _ in range(5))
    now, now_over = torch.Tensor(env.reset(seed=1)[0]), torch.zeros(8)
    steps = 0
    while True:
        for t in range(128):
            obs[t], over[t] = now, now_over
            with torch.no_grad():
                action[t], log_prob[t], _, v = agent(now)
                value[t] = v.flatten()
            after, _, earned, terminated = played(env, now.numpy(), action[t].long().numpy())
            reward[t], now, now_over = torch.tensor(earned), torch.Tensor(after), torch.Tensor(terminated)
            steps += 8
            yield steps
        with torch.no_grad():
            advantage, last, next_value = torch.zeros_like(reward), torch.zeros(8), agent(now)[3].flatten()
            for t in reversed(range(128)):
                alive = 1 - (now_over if t == 127 else over[t + 1])
                delta = reward[t] + 0.99 * (next_value if t == 127 else value[t + 1]) * alive - value[t]
                advantage[t] = last = delta + 0.99 * 0.95 * alive * last
            goal = advantage + value
        flat = [x.reshape(-1, *x.shape[2:]) for x in (obs, action, log_prob, advantage, goal, value)]
        for _ in range(4):
            for at in np.array_split(np.random.permutation(1024), 4):
                o, a, lp, adv, g, v0 = (x[at] for x in flat)
                _, new, entropy, v = agent(o, a)
                ratio = (new - lp).exp()
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                policy_loss = torch.max(-adv * ratio, -adv * ratio.clamp(0.9, 1.1)).mean()
                near = v0 + (v.flatten() - v0).clamp(-0.1, 0.1)
                value_loss = 0.5 * torch.max((v.flatten() - g) ** 2, (near - g) ** 2).mean()
                optimiser.zero_grad()
                (policy_loss - 0.01 * entropy.mean() + 0.5 * value_loss).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimiser.step()


def pqn(game: str, learn_start: int) -> Iterator[int]:
    """pqn_atari_envpool, with ale-py's own vector environment instead of envpool: yields agent steps."""
    env = AtariVectorEnv(rom_of(game), 8, repeat_action_probability=0.0, episodic_life=True, reward_clipping=True)
    actions = int(env.single_action_space.n)  # type: ignore[attr-defined]
    agent = nn.Sequential(
        Torso(layer_norm=True), init(nn.Linear(3136, 512)), nn.LayerNorm(512), nn.ReLU(), init(nn.Linear(512, actions))
    )
    optimiser = torch.optim.RAdam(agent.parameters(), lr=2.5e-4)
    obs = torch.zeros(128, 8, 4, 84, 84)
    action, reward, over, value = torch.zeros(128, 8).long(), *(torch.zeros(128, 8) for _ in range(3))
    now, now_over, steps = torch.Tensor(env.reset(seed=1)[0]), torch.zeros(8), 0
    while True:
        for t in range(128):
            obs[t], over[t] = now, now_over
            with torch.no_grad():
                q = agent(now)
            value[t] = q.max(1).values
            action[t] = torch.where(torch.rand(8) < 0.1, torch.randint(0, actions, (8,)), q.argmax(1))
            after, earned, terminated, _, _ = env.step(action[t].numpy())
            reward[t], now, now_over = torch.tensor(earned), torch.Tensor(after), torch.Tensor(terminated)
            steps += 8
            yield steps
        with torch.no_grad():
            goal, next_value = torch.zeros_like(reward), agent(now).max(1).values
            for t in reversed(range(128)):
                alive = 1 - (now_over if t == 127 else over[t + 1])
                bootstrap = next_value if t == 127 else 0.65 * goal[t + 1] + 0.35 * value[t + 1]
                goal[t] = reward[t] + 0.99 * bootstrap * alive
        flat = [x.reshape(-1, *x.shape[2:]) for x in (obs, action, goal)]
        for _ in range(4):
            for at in np.array_split(np.random.permutation(1024), 4):
                o, a, g = (x[at] for x in flat)
                loss = F.mse_loss(g, agent(o).gather(1, a[:, None]).squeeze())
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 10.0)
                optimiser.step()


AGENTS = {"ppo": ppo, "pqn": pqn}
