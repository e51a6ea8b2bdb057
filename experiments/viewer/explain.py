"""What an agent sees, wants and remembers, as plain numbers. Nothing here changes the agent or its random state."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.agent import Agent
from agents.curious import Curious
from agents.returns import unscale
from agents.search import Plan
from agents.sequence import tree_leaves, tree_map
from envs.timestep import TimeStep

FEWEST = 24  # random fractions of a return distribution that is shown


class View(NamedTuple):
    """What an agent expects of each action in one state.

    Fields: `values`, Q(s, a) [A], or none for agents that learn a policy; `policy`, pi(a|s) [A], or none for those
    that learn only values; `value`, V(s) or max_a Q(s, a); `spread`, the return distribution of every action as
    (returns [A, K], weight [A, K]), or none; `plan`, actions that a search imagined, one after the other, if it did.
    """

    values: Tensor | None
    policy: Tensor | None
    value: float
    spread: tuple[Tensor, Tensor] | None
    plan: tuple[int, ...] = ()

    @property
    def doubt(self) -> tuple[str, float, float | None]:
        """The policy's entropy in nats, or where there is none the gap between the two best action values.

        Returns: its name; how much; the most that it can be, which is that of a uniform policy, None for a gap.
        """
        if self.policy is not None:
            entropy = -float(torch.xlogy(self.policy, self.policy).sum())
            return "entropy", max(0.0, entropy), math.log(len(self.policy))
        assert self.values is not None
        best = self.values.topk(min(2, len(self.values))).values
        return "action gap", float(best[0] - best[-1]), None


def view(algorithm: Any, output: Any) -> View:
    """Reads a network's output for one state.

    Args:
        output: what the algorithm says it is (`values`, `distribution`, `policy`); of one that says nothing, action
            values [A], or of a policy (logits [A], value []), or the values [2] of the game and of intrinsic rewards,
            of which the game's is shown.
    """
    algorithm = earning(algorithm)
    liked = preferences(algorithm, tree_map(lambda x: x[None], output))[0]
    if isinstance(output, tuple) and not hasattr(algorithm, "values"):
        return View(None, liked.softmax(-1), float(output[1].flatten()[0]), None)
    values = unscale(liked) if getattr(algorithm, "value_rescaling", False) else liked
    # Munchausen agents act greedily, but what they learn is the value of their policy.
    policy = algorithm.policy(values) if hasattr(algorithm, "policy") else None
    return View(values, policy, float(values.max()), spread(algorithm, output))


def worth(algorithm: Any) -> str:
    """What values count, in words: not the game's points as they stand."""
    inner = earning(algorithm)
    said = [f"discounted by {inner.discount:g}" if inner.discount < 1 else "not discounted"]
    if clip := getattr(inner, "reward_clip", 0.0):
        said.append(f"rewards within ±{clip:g}")
    if (scale := getattr(inner, "reward_scale", 1.0)) != 1:
        said.append(f"rewards times {scale:g}")
    if hasattr(inner, "policy"):
        said.append("with the policy's entropy")
    if isinstance(algorithm, Curious):
        said.append("with the intrinsic reward")
    if hasattr(algorithm, "plan"):
        said.append("as the search found it" + ", for who is to move" * hasattr(algorithm, "rules"))
    return ", ".join(said)


def earning(algorithm: Any) -> Any:
    """The algorithm itself, of one with an intrinsic reward."""
    return getattr(algorithm, "algorithm", algorithm)


def view_of_plan(found: Plan) -> View:
    """Reads what a search found, of one position: the policy is that which the network is to learn."""
    return View(None, found.policy[0].cpu(), float(found.value[0]), None, tuple(found.line(0)))


def spread(algorithm: Any, output: Any) -> tuple[Tensor, Tensor] | None:
    """The return distributions in a network's output for one state, as in `View`; None if it has only means."""
    if not hasattr(algorithm, "distribution"):
        return None
    returns, weight = algorithm.distribution(output)
    if isinstance(output, tuple) and returns.shape[-1] < FEWEST:  # drawn anew at every step: a picture would be of that
        return None
    order = returns.argsort(-1)
    return returns.gather(-1, order), weight.gather(-1, order)


def histogram(spread: tuple[Tensor, Tensor], bins: int = 51) -> tuple[float, float, Tensor]:
    """Return distributions on one common axis: (lowest, highest return, probability [A, bins]).

    The axis spans the returns that some action gives more than a thousandth of its probability. Atoms that all
    actions share stay as they are; quantiles are counted in bins, wide enough to hold three of them on average.
    """
    returns, weight = (x.double().cpu() for x in spread)
    likely = returns[weight > 1e-3 * min(1.0, 51 / weight.shape[-1])]  # of many atoms each has little
    low, high = float(likely.min()), float(likely.max())
    shared = len(returns) > 1 and bool((returns == returns[0]).all())
    if shared:
        inside = (returns[0] >= low) & (returns[0] <= high)
        return low, high, weight[:, inside]
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    bins = max(min(bins, returns.shape[-1] // 3), 2)
    place = ((returns - low) / (high - low) * bins).floor().clamp(0, bins - 1).long()
    return low, high, torch.zeros(len(returns), bins, dtype=torch.double).scatter_add_(1, place, weight)


def preferences(algorithm: Any, output: Any) -> Tensor:
    """What the choice of an action hangs on, [B, A], in a network's output [B, ...]: values, or a policy's logits."""
    algorithm = earning(algorithm)
    if hasattr(algorithm, "values"):
        return algorithm.values(output)
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def repeatable() -> Iterator[None]:
    """While it lasts, what is drawn at random is the same every time; afterwards, as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def gradient_saliency(agent: Agent, step: TimeStep, state: Any, action: int) -> Tensor:
    """|d Q(s, a) / d pixel|, the largest over the stacked frames (Simonyan et al. 2014; Wang et al. 2016, fig. 2).

    Of a policy's logit where there are no values.

    Args:
        step: TimeStep [1]; `state` [1, ...] is the memory before it.

    Returns:
        float32 [H, W], per unit of the uint8 pixels.
    """
    pixels = step.obs.float().requires_grad_()
    with repeatable(), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN's RNNs cannot, in eval
        again = step._replace(obs=pixels * 1)  # a copy: torsos scale theirs in place
        output, _ = agent.acting(tree_map(lambda x: x[None], again), state)
        liked = preferences(agent.algorithm, tree_map(lambda x: x[0], output))
        (gradient,) = torch.autograd.grad(liked[0, action], pixels)
    return gradient[0].abs().flatten(0, -3).amax(0)


def gaussian_blur(images: Tensor, sigma: float, edges: str = "replicate") -> Tensor:
    """Blurs [..., H, W] by a Gaussian, cut off at three sigma; edges are repeated outwards, or ("constant") all is 0
    beyond them."""
    radius = int(3 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = (-(x**2) / (2 * sigma**2)).exp()
    kernel /= kernel.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    flat = nn.functional.pad(flat, (radius,) * 4, mode=edges)
    flat = nn.functional.conv2d(flat, kernel[None, None, None, :])
    return nn.functional.conv2d(flat, kernel[None, None, :, None]).reshape(images.shape)


def perturbation_saliency(respond: Callable[[Tensor], Tensor], obs: Tensor, stride: int = 0) -> Tensor:
    """How much blurring a place changes the answer (Greydanus et al. 2018, eqs. 1 to 3).

    Around about every fifth pixel (i, j), the edges' included, the frames I become I * (1 - M) + A(I) * M: A blurs with
    sigma 3, and M is a Gaussian of variance 25 about (i, j) with height 1. The score is half the squared change of the
    answer. Of what is less than 80 pixels a side, M and the steps between places are as much smaller.

    Args:
        respond: images [B, ..., H, W], float32 in 0..255, to answers [B, A].
        obs: one observation [..., H, W]; each of its frames, or channels, is blurred at the same place.
        stride: pixels from one place to the next; 0 for those above.

    Returns:
        float32 [H, W], interpolated between the places.
    """
    images = obs.float()
    height, width = images.shape[-2:]
    blurred = gaussian_blur(images, 3.0)
    sigma = min(5.0, min(height, width) / 16)
    rows, columns = (places(n, stride or max(round(sigma), 1), obs.device) for n in (height, width))
    y, x = (torch.arange(n, device=obs.device, dtype=torch.float32) for n in (height, width))
    across = (-((x - columns[:, None]) ** 2) / (2 * sigma**2)).exp()  # [J, W]
    answer = respond(images[None])
    scores = []
    for i in rows:  # a row of places at a time, which bounds the memory
        mask = (-((y - i) ** 2) / (2 * sigma**2)).exp()[:, None] * across[:, None, :]  # [J, H, W]
        mask = mask.view(-1, *[1] * (images.ndim - 2), height, width)
        mixed = images * (1 - mask) + blurred * mask  # [J, ..., H, W]
        scores.append(0.5 * ((respond(mixed) - answer) ** 2).sum(-1))
    grid = torch.stack(scores)[None, None]
    return nn.functional.interpolate(grid, size=(height, width), mode="bilinear", align_corners=True)[0, 0]


def places(size: int, stride: int, device: torch.device) -> Tensor:
    """Coordinates from the first pixel of a side to its last, evenly, about `stride` apart."""
    return torch.linspace(0, size - 1, round((size - 1) / stride) + 1, device=device)


def perturbed(agent: Agent, step: TimeStep, state: Any) -> Tensor:
    """`perturbation_saliency` [H, W] of an agent's preferences in one state: TimeStep [1] and memory [1, ...]."""

    @torch.no_grad()
    def respond(images: Tensor) -> Tensor:
        many = tree_map(lambda x: x.expand(len(images), *x.shape[1:])[None], step)._replace(obs=images[None] * 1)
        memory = tree_map(lambda x: x.expand(len(images), *x.shape[1:]).contiguous(), state)
        with repeatable(), same_fractions(agent.acting):
            return preferences(agent.algorithm, tree_map(lambda x: x[0], agent.acting(many, memory)[0]))

    return perturbation_saliency(respond, step.obs[0])


@contextmanager
def same_fractions(network: nn.Module) -> Iterator[None]:
    """While it lasts, an implicit quantile network takes the same, even fractions for all states that it is shown."""

    def even(head: Any, given: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, drawn = given[0], output[1]
        tau = (torch.arange(drawn.shape[-1], device=x.device) + 0.5) / drawn.shape[-1]
        tau = tau.expand_as(drawn)
        return head.values(x[..., None, :] * head.embed(tau)), tau

    hooks = [part.register_forward_hook(even) for part in network.modules() if hasattr(part, "embed")]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def feature_maps(network: nn.Module, step: TimeStep, state: Any) -> Tensor:
    """What the network takes from its first convolution: [K, h, w]; none [0, 1, 1] for a network without one.

    Normalised and rectified where it is; of residual torsos, which go on with either sign, the size after pooling.
    """
    leaves = [part for part in network.get_submodule("torso").modules() if not [*part.children()]]
    convolutions = [i for i, part in enumerate(leaves) if isinstance(part, nn.Conv2d)]
    if not convolutions:
        return torch.zeros(0, 1, 1)
    part, *then = leaves[convolutions[0] :]
    first = then[0] if then and isinstance(then[0], nn.GroupNorm | nn.MaxPool2d) else part
    found: list[Tensor] = []
    hook = first.register_forward_hook(lambda part, given, output: found.append(output))
    try:
        with repeatable():
            network(tree_map(lambda x: x[None], step), state)
    finally:
        hook.remove()
    return found[0][0].abs() if isinstance(first, nn.MaxPool2d) else found[0][0].relu()


def memory_norms(before: Any, after: Any) -> tuple[float, float] | None:
    """Euclidean norm of a memory after a step, and of its change; None for agents without memory.

    A window, which comes with a mask [B, W], slides by a place at every step: its change is what came or was cleared.
    """
    old, new = tree_leaves(before), tree_leaves(after)
    window = next((x.shape[1] for x in old if x.dtype == torch.bool), 0)
    pairs = [(x, y.float()) for x, y in zip(old, new, strict=True) if x.dtype != torch.bool]  # masks are no memories
    if not pairs:
        return None

    def slid(x: Tensor) -> Tensor:
        return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1) if window and x.shape[1] == window else x

    norm = sum(float((y**2).sum()) for _, y in pairs) ** 0.5
    return norm, sum(float(((y - slid(x).float()) ** 2).sum()) for x, y in pairs) ** 0.5
