"""Returns and value targets. Pure functions of tensors, time first; one equation each."""

from typing import Any

import torch
from torch import Tensor, nn

from agents.sequence import tree_map


def n_step(
    reward: Tensor, terminal: Tensor, last: Tensor, discount: float | Tensor, n: int, within: int | Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Folds up to n steps into one, never past the end of an episode.

    The target for step t is `total[t] + scale[t] * V(step t + hop[t])`: Hessel et al. 2018,
    "Multi-step learning". Near the end of the window, hops are shorter than n.

    Args:
        reward: float [T, B]; reward[t] was earned on the way to step t.
        terminal, last: bool [T, B], as in TimeStep.
        discount: gamma, one or of each sequence [B].
        n: steps to fold.
        within: fold no more of them than so many, at least 1, one number or for each sequence int64 [B].

    Returns:
        total, scale (float) and hop (int64), each [T - 1, B]. scale is 0 past a terminal step;
        hop is 0 where the step is a `last`, whose action meant nothing.
    """
    assert reward.shape == terminal.shape == last.shape, (reward.shape, terminal.shape, last.shape)
    total = torch.zeros_like(reward[1:])
    scale = torch.ones_like(total)
    hop = torch.zeros_like(total, dtype=torch.int64)
    going = (~last[:-1]).long()  # whether the episode still goes on there: torch cannot compile slices of bools
    most = None if within is None else torch.as_tensor(within, device=last.device)
    for k in range(1, min(n, len(total)) + 1):
        rows = slice(0, len(total) + 1 - k)  # steps t for which t + k is inside the window
        total[rows] += going[rows] * scale[rows] * reward[k:]
        scale[rows] *= torch.where(going[rows] > 0, discount * ~terminal[k:], 1.0)
        hop[rows] += going[rows]
        going[rows] *= ~last[k:] if most is None else ~last[k:] & (most > k)
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


def hopped(tree: Any, hop: Tensor) -> Any:
    """Tensors at step k + hop[k, b] of each sequence b: [T, B, ...] and int64 [K, B] to [K * B, ...]."""
    batch = hop.shape[-1]
    step = torch.arange(len(hop), device=hop.device)[:, None] + hop
    place = (step * batch + torch.arange(batch, device=hop.device)).flatten()
    look_up = looked_up if torch.compiler.is_compiling() else torch.index_select
    return tree_map(lambda x: look_up(x.flatten(0, 1), 0, place), tree)


@torch.library.custom_op("highscore::looked_up", mutates_args=())
def looked_up(x: Tensor, dim: int, place: Tensor) -> Tensor:
    """torch.index_select without a gradient, and never compiled together with what comes after it.

    A CPU would look frames up pixel by pixel as the first layer comes to them: 29 ms for `rainbow` instead of 1.
    """
    return x.index_select(dim, place)


@looked_up.register_fake
def _(x: Tensor, dim: int, place: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:dim], len(place), *x.shape[dim + 1 :]))


def q_learning_target(total: Tensor, scale: Tensor, q_target: Tensor, q_selector: Tensor) -> Tensor:
    """total + scale * Q_target(s', argmax_a Q_selector(s', a)).

    With q_selector = q_target it is Mnih et al. (2015), algorithm 1; with the online network's values it
    is double Q-learning (van Hasselt et al. 2016, eq. 4).

    Args:
        total, scale: float [...], from `n_step`.
        q_target, q_selector: float [..., A] at the step that `n_step` hops to.
    """
    assert q_target.shape == q_selector.shape, (q_target.shape, q_selector.shape)
    return total + scale * pick(q_target, q_selector.argmax(-1))


def rescale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """h(x) = sgn(x) (sqrt(|x| + 1) - 1) + epsilon x (Pohlen et al. 2018, prop. A.2): large values made small."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + epsilon * x


def unscale(y: Tensor, epsilon: float = 1e-3) -> Tensor:
    """h^-1 (Pohlen et al. 2018, prop. A.2), without the difference in which its formula loses float32's digits.

    For s = sqrt(|x| + 1) it is the root of epsilon s^2 + s = 1 + epsilon + |y|, and |x| = (s - 1)(s + 1).
    """
    size = y.abs()
    root = (1 + 4 * epsilon * (size + 1 + epsilon)).sqrt()
    excess = 2 * size / (root + 1 + 2 * epsilon)  # s - 1 = (root - 1 - 2 epsilon) / (2 epsilon), rationalised
    return y.sign() * excess * (excess + 2)


def two_hot(x: Tensor, most: int) -> Tensor:
    """Numbers [...] as probabilities [..., 2 most + 1] of the whole numbers from -most to most: of the two that are
    next to x, so that their mean is x (Schrittwieser et al. 2020, app. F)."""
    atoms = torch.arange(-most, most + 1, device=x.device)
    return (1 - (x.clamp(-most, most)[..., None] - atoms).abs()).clamp(min=0)


def mean_of(logits: Tensor) -> Tensor:
    """The inverse: the mean [...] of a distribution [..., 2 most + 1] over the whole numbers from -most to most."""
    most = logits.shape[-1] // 2
    return logits.softmax(-1) @ torch.arange(-most, most + 1, device=logits.device, dtype=logits.dtype)


def mixed_priority(size: Tensor, live: Tensor, mix: float) -> Tensor:
    """eta max_t |d_t| + (1 - eta) mean_t |d_t| (Kapturowski et al. 2019, sec. 2.3): [K, B] to [B].

    Args:
        size: float, 0 where not live.
        live: bool, the steps that count.
    """
    mean = size.sum(0) / live.sum(0).clamp(min=1)
    return mean + mix * (size.amax(0) - mean)


def gae(reward: Tensor, terminal: Tensor, last: Tensor, value: Tensor, discount: float, trace: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16), never past the end of an episode.

    A[t] = d[t] + discount * trace * A[t+1] with d[t] = r[t+1] + discount * V[t+1] - V[t]; past a terminal step
    nothing, and at an episode's end or the window's the bootstrap value alone.

    Args:
        reward, value: float [T, B].
        terminal, last: bool [T, B].

    Returns:
        [T - 1, B]; meaningless where `last`.
    """
    assert reward.shape == value.shape == last.shape, (reward.shape, value.shape, last.shape)
    advantages = torch.empty_like(reward[1:])
    following = torch.zeros_like(reward[0])
    for t in reversed(range(len(advantages))):
        ahead = discount * ~terminal[t + 1]
        error = reward[t + 1] + ahead * value[t + 1] - value[t]
        following = error + ahead * trace * ~last[t + 1] * following
        advantages[t] = following
    return advantages


def entropy(log_pi: Tensor) -> Tensor:
    """-sum_a pi(a) ln pi(a), in nats: ln pi float [..., A] to [...]."""
    return -(log_pi.exp() * log_pi).sum(-1)


def clip_reward(reward: Tensor, bound: float) -> Tensor:
    """Rewards of any shape within -bound and bound (Mnih et al. 2015, Methods), or with 0 as they are."""
    return reward.clamp(-bound, bound) if bound else reward


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """-min(r A, clip(r, 1 - c, 1 + c) A) (Schulman et al. 2017, eq. 7); elementwise, to be minimised."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def vtrace(
    reward: Tensor, terminal: Tensor, last: Tensor, value: Tensor, ratio: Tensor, discount: float,
    rho_max: float = 1.0, c_max: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """V-trace targets and policy-gradient advantages (Espeholt et al. 2018, eq. 1 and sec. 4.2).

    Args:
        reward, value: float [T, B].
        terminal, last: bool [T, B].
        ratio: float [T - 1, B], pi(a|s) / mu(a|s) of the actions taken.
        rho_max, c_max: bounds of the ratio in the errors and in the trace (rho-bar and c-bar).

    Returns:
        v_s and rho_s (r + discount v_{s+1} - V_s), each [T - 1, B]; meaningless where `last`.
    """
    assert reward.shape == last.shape == value.shape, (reward.shape, value.shape, last.shape)
    assert ratio.shape == reward[1:].shape, (ratio.shape, reward.shape)
    rho, c = ratio.clamp(max=rho_max), ratio.clamp(max=c_max)
    ahead = discount * ~terminal[1:]
    errors = rho * (reward[1:] + ahead * value[1:] - value[:-1])
    corrections = torch.empty_like(errors)
    following = torch.zeros_like(errors[0])
    for t in reversed(range(len(errors))):
        following = errors[t] + ahead[t] * c[t] * ~last[t + 1] * following
        corrections[t] = following
    targets = value[:-1] + corrections
    # v_{s+1}, or at an episode's end and the window's the value itself.
    after = torch.cat([targets[1:], value[-1:]])
    after = torch.where(last[1:], value[1:], after)
    return targets, rho * (reward[1:] + ahead * after - value[:-1])


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
        kappa: where the Huber loss turns straight; 0 for |d|.

    Returns:
        [...]. Its value and gradient in theta are exact, further derivatives are 0: autograd would go over the N M
        pairs thirty times, most of the update where N = M = 200; this does so ten times.
    """

    def weighted(whole: Tensor, above: Tensor) -> Tensor:
        # Targets above theta count tau, those below 1 - tau.
        return (tau * above + (1 - tau) * (whole - above)) / (kappa or 1)

    with torch.no_grad():
        error = target[..., None, :] - theta[..., :, None]  # d, [..., N, M]
        slope = error.clamp(-kappa, kappa) if kappa else error.sign()  # L'(d)
        above = slope.clamp(min=0)  # the same where the target is above theta, else 0
        factor = error.sub_(slope, alpha=0.5) if kappa else error  # L(d) = L'(d) (d - L'(d) / 2), or |d|
        descent = weighted(slope.mean(-1), above.mean(-1))  # minus the derivative in theta
        value = weighted(slope.mul_(factor).mean(-1), above.mul_(factor).mean(-1))  # in place: [..., N, M] is large
    # The value is exact, and the gradient -descent: theta.detach() - theta is 0 and has gradient -1.
    return (value + descent * (theta.detach() - theta)).sum(-1)


def soft_value(q: Tensor, temperature: float) -> Tensor:
    """sum_a pi(a) (q(a) - T ln pi(a)) = T logsumexp(q / T) for pi = softmax(q / T): [..., A] to [...]."""
    return temperature * torch.logsumexp(q / temperature, -1)


def scaled_log_policy(q: Tensor, temperature: float) -> Tensor:
    """T ln softmax(q / T), stable for small T: [..., A] to [..., A] (Vieillard et al. 2020, appendix B.1)."""
    return temperature * (q / temperature).log_softmax(-1)


def munchausen_term(q: Tensor, action: Tensor, temperature: float, scaling: float, clip: float) -> Tensor:
    """alpha [T ln pi(a|s)] clipped to [l_0, 0] (Vieillard et al. 2020, eq. 2): [..., A] and [...] to [...]."""
    return scaling * pick(scaled_log_policy(q, temperature), action).clamp(clip, 0.0)


def self_prediction(foretold: Tensor, came: Tensor, live: Tensor) -> Tensor:
    """-sum_k cos(y_k, y~_k) over the live steps k (Schwarzer et al. 2021, eq. 4).

    Args:
        foretold, came: float [K, B, P], predictions and what they should be.
        live: [K, B], 1 for what counts, else 0.

    Returns:
        [B], from -K, where all are foretold, to K.
    """
    return -(nn.functional.cosine_similarity(foretold, came, -1) * live).sum(0)


def spread(x: Tensor) -> Tensor:
    """1 - |mean of x / |x||^2, of vectors [N, P]: 0 where all point one way, 1 where they point anywhere; [].

    Features that have collapsed foretell one another, and nothing else.
    """
    return 1 - nn.functional.normalize(x, dim=-1).mean(0).square().sum()


def mean_over_time(x: Tensor, live: Tensor) -> Tensor:
    """The mean over the live steps of each sequence: [T, B] and bool [T, B] to [B].

    0 if it has none: of single steps, those at episodes' ends count so in a minibatch's mean.
    """
    return (x * live).sum(0) / live.sum(0).clamp(min=1)


def mean_over_live(x: Tensor, live: Tensor) -> Tensor:
    """The mean over the live steps of all sequences, 0 if there is none: [T, B, ...] and bool [T, B] to [...]."""
    live = live.view(*live.shape, *[1] * (x.dim() - live.dim()))
    return (x * live).sum((0, 1)) / live.sum().clamp(min=1)


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """error^2 / 2 near zero, slope `delta` beyond it (Huber 1964); elementwise."""
    size = error.abs()
    small = size.clamp(max=delta)
    return 0.5 * small**2 + delta * (size - small)
