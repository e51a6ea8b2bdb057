"""Returns and value targets. Pure functions of tensors, time first; one equation each."""

import torch
from torch import Tensor


def n_step(reward: Tensor, terminal: Tensor, last: Tensor, discount: float, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Folds up to n steps into one, never past the end of an episode.

    The target for step t is `total[t] + scale[t] * V(step t + hop[t])`: Hessel et al. 2018, sec. 2
    ("Multi-step learning"). Near the end of the window, hops are shorter than n.

    Args:
        reward: float [T, B]; reward[t] was earned on the way to step t.
        terminal, last: bool [T, B], as in TimeStep.
        n: steps to fold.

    Returns:
        total, scale (float) and hop (int64), each [T - 1, B]. scale is 0 past a terminal step;
        hop is 0 where the step is a `last`, whose action meant nothing.
    """
    assert reward.shape == terminal.shape == last.shape, (reward.shape, terminal.shape, last.shape)
    total = torch.zeros_like(reward[1:])
    scale = torch.ones_like(total)
    hop = torch.zeros_like(total, dtype=torch.int64)
    going = ~last[:-1]
    for k in range(1, min(n, len(total)) + 1):
        rows = slice(0, len(total) + 1 - k)  # steps t for which t + k is inside the window
        total[rows] += going[rows] * scale[rows] * reward[k:]
        scale[rows] *= torch.where(going[rows], discount * ~terminal[k:], 1.0)
        hop[rows] += going[rows]
        going[rows] &= ~last[k:]
    return total, scale, hop


def lambda_returns(
    reward: Tensor, terminal: Tensor, last: Tensor, value: Tensor, discount: float, trace: float
) -> Tensor:
    """Q(lambda) targets (Gallici et al. 2025, eq. 12; Peng's, not cut at exploratory actions).

    G[t] = r[t+1] + discount * (trace * G[t+1] + (1 - trace) * V[t+1]); past a terminal step nothing,
    and at an episode's end or the window's the bootstrap value alone.

    Args:
        reward, value: float [T, B]; value[t] = max_a Q(step t, a).
        terminal, last: bool [T, B].

    Returns:
        [T - 1, B]; meaningless where `last`.
    """
    assert reward.shape == value.shape == last.shape, (reward.shape, value.shape, last.shape)
    targets = torch.empty_like(reward[1:])
    following = value[-1]
    for t in reversed(range(len(targets))):
        # Where step t + 1 ends an episode, its own value stands for everything after it.
        following = torch.where(last[t + 1], value[t + 1], trace * following + (1 - trace) * value[t + 1])
        targets[t] = reward[t + 1] + discount * ~terminal[t + 1] * following
        following = targets[t]
    return targets


def pick(x: Tensor, chosen: Tensor) -> Tensor:
    """x[..., chosen]: [..., A] and int64 [...] to [...]."""
    return x.gather(-1, chosen[..., None]).squeeze(-1)


def pick_atoms(x: Tensor, chosen: Tensor) -> Tensor:
    """x[b, chosen[b]]: [B, A, M] and int64 [B] to [B, M]."""
    return x[torch.arange(len(x), device=x.device), chosen]


def hopped(x: Tensor, hop: Tensor) -> Tensor:
    """x at step hop[b] of each sequence b: [T, B, ...] and int64 [B] to [B, ...]."""
    batch = torch.arange(len(hop), device=hop.device)
    return x.flatten(0, 1).index_select(0, hop * len(hop) + batch)


def q_learning_target(total: Tensor, scale: Tensor, q_target: Tensor, q_selector: Tensor) -> Tensor:
    """total + scale * Q_target(s', argmax_a Q_selector(s', a)).

    With q_selector = q_target it is Mnih et al. (2015), eq. 1; with the online network's values it
    is double Q-learning (van Hasselt et al. 2016, eq. 4).

    Args:
        total, scale: float [...], from `n_step`.
        q_target, q_selector: float [..., A] at the step that `n_step` hops to.
    """
    assert q_target.shape == q_selector.shape, (q_target.shape, q_selector.shape)
    return total + scale * pick(q_target, q_selector.argmax(-1))


def categorical_projection(z: Tensor, probability: Tensor, support: Tensor) -> Tensor:
    """Phi_z: moves the mass at z to the two nearest atoms of the support (Bellemare et al. 2017, eq. 7).

    Args:
        z: float [..., M], where the mass is; beyond the support it goes to its ends.
        probability: float [..., M].
        support: float [M'], evenly spaced atoms.

    Returns:
        [..., M']; its sum is that of `probability`, also where z falls exactly on an atom.
    """
    gap = support[1] - support[0]
    z = z.clamp(support[0], support[-1])
    share = (1 - (z[..., None, :] - support[:, None]).abs() / gap).clamp(0, 1)  # [..., M', M]
    return (share * probability[..., None, :]).sum(-1)


def quantile_huber(theta: Tensor, tau: Tensor, target: Tensor, kappa: float) -> Tensor:
    """sum_i mean_j |tau_i - 1{d_ij < 0}| L_kappa(d_ij) / kappa with d_ij = target_j - theta_i.

    Dabney et al. (2018a), eq. 10. With kappa = 0 it is the quantile regression loss, eq. 8.

    Args:
        theta, tau: float [..., N], predicted quantiles and their fractions.
        target: float [..., M], samples or quantiles of the target.

    Returns:
        [...].
    """
    error = target[..., None, :] - theta[..., :, None]  # [..., N, M]
    size = huber(error, kappa) / kappa if kappa else error.abs()
    return ((tau[..., :, None] - (error < 0).float()).abs() * size).mean(-1).sum(-1)


def soft_value(q: Tensor, temperature: float) -> Tensor:
    """sum_a pi(a) (q(a) - T ln pi(a)) = T logsumexp(q / T) for pi = softmax(q / T): [..., A] to [...]."""
    return temperature * torch.logsumexp(q / temperature, -1)


def log_policy(q: Tensor, temperature: float) -> Tensor:
    """T ln softmax(q / T), stable for small T: [..., A] to [..., A] (Vieillard et al. 2020, appendix B.1)."""
    return q - soft_value(q, temperature)[..., None]


def munchausen_term(q: Tensor, action: Tensor, temperature: float, scaling: float, clip: float) -> Tensor:
    """alpha [T ln pi(a|s)] clipped to [l_0, 0] (Vieillard et al. 2020, eq. 2): [..., A] and [...] to [...]."""
    return scaling * pick(log_policy(q, temperature), action).clamp(clip, 0.0)


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """error^2 / 2 near zero, slope `delta` beyond it (Huber 1964); elementwise."""
    size = error.abs()
    small = size.clamp(max=delta)
    return 0.5 * small**2 + delta * (size - small)
