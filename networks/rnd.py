"""Random network distillation (Burda et al. 2019): how badly a network predicts another one's random features."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class RunningMoments(nn.Module):
    """Running mean and variance of samples, in buffers (Chan et al. 1979, eq. 2.1)."""

    def __init__(self, *shape: int):
        super().__init__()
        self.mean: Tensor
        self.variance: Tensor
        self.count: Tensor
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def update(self, x: Tensor) -> None:
        """Takes in samples [B, ...]."""
        new = x.double()
        total = self.count + len(new)
        apart = new.mean(0) - self.mean
        spread = self.variance * self.count + new.var(0, correction=0) * len(new)
        self.variance.copy_((spread + apart**2 * self.count * len(new) / total) / total)
        self.mean.add_(apart * len(new) / total)
        self.count.copy_(total)


class RND(nn.Module):
    """A fixed random network and a predictor of it, with the statistics that keep both ends in scale.

    Only the newest frame counts. Nothing here moves but by gradients, `watch`, `follow` and
    `returns.update`.

    Args:
        shape: (stack, H, W) or (stack, C, H, W) of one observation.
        num_envs: N, games played at once.
        size: features predicted.
    """

    def __init__(self, shape: tuple[int, ...], num_envs: int, size: int = 512):
        super().__init__()
        self.axes, frame = len(shape), (math.prod(shape[1:-2]), *shape[-2:])
        self.frame = frame
        self.seen, self.returns = RunningMoments(*frame), RunningMoments()
        self.earning: Tensor  # discounted intrinsic return of each game so far
        self.register_buffer("earning", torch.zeros(num_envs, dtype=torch.float64))
        self.fixed = features(frame, size).requires_grad_(False)
        hidden = [nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size)]
        self.predictor = nn.Sequential(features(frame, size), *hidden)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # The authors' matrices are orthogonal, of this variance; these need no decomposition.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, obs: Tensor) -> Tensor:
        """Mean squared errors [...] of observations uint8 [..., stack, H, W]; the gradient reaches the predictor."""
        frames = self.newest(obs)
        scale = self.seen.variance.clamp(min=1e-8).sqrt()
        x = ((frames - self.seen.mean.float()) / scale.float()).clamp(-5, 5)  # ibid., sec. 2.4
        error = (self.predictor(x) - self.fixed(x)).square().mean(-1)
        return error.view(obs.shape[: -self.axes])

    @torch.no_grad()
    def watch(self, obs: Tensor) -> None:
        """Takes observations [..., stack, H, W] into the statistics that normalise what is seen."""
        self.seen.update(self.newest(obs))

    def newest(self, obs: Tensor) -> Tensor:
        """The newest frames of stacks, as float32 [B, C, H, W]."""
        return obs.flatten(0, -self.axes - 1)[:, -1].reshape(-1, *self.frame).float()

    @torch.no_grad()
    def follow(self, error: Tensor, discount: float) -> None:
        """Takes T steps of every game [T, N] into the spread of discounted intrinsic returns (sec. 2.4).

        Returns do not end with an episode (sec. 2.3).
        """
        earned = []
        for now in error.double():
            self.earning.mul_(discount).add_(now)
            earned.append(self.earning.clone())
        self.returns.update(torch.stack(earned).flatten())

    def keep_from_compiling(self) -> None:
        """Lets the statistics be worked out as ever where all else is compiled.

        What compiled code writes into a float64 without dimensions is lost on a CPU (torch 2.13).
        """
        for moments in (self.seen, self.returns):
            moments.update = torch.compiler.disable(moments.update)  # type: ignore[method-assign]

    def scale(self) -> Tensor:
        """Standard deviation of what `follow` or `returns` took in: a scalar."""
        return self.returns.variance.sqrt().clamp(min=1e-8).float()


def features(shape: tuple[int, ...], size: int) -> nn.Sequential:
    """Convolutions of the authors' code and a dense layer; small frames have the dense layer alone."""
    layers: list[Any] = []
    if min(shape[1:]) >= 36:
        for out, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            layers += [nn.Conv2d(shape[0], out, kernel, stride), nn.LeakyReLU(0.2)]
            shape = (out, *((side - kernel) // stride + 1 for side in shape[1:]))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(math.prod(shape), size))
