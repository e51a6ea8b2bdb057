"""The processes that torchrun started to learn one thing together, and all that they say to each other."""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiments.distributed.orphans import end_with_parent
from experiments.files import Failed

T = TypeVar("T")

PATIENCE = timedelta(hours=12)  # the longest that the first rank may evaluate or save while the others wait


class Gone(Failed):
    """Another rank does not answer any more."""


class World:
    """One process, a *rank*, among those that learn together. The first, rank 0, owns the run directory.

    Every method but `send` and `receive` must be called by all ranks, in the same order.

    Attributes:
        rank: 0 to `size` - 1.
        size: how many there are, on all machines.
    """

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size

    @classmethod
    def of_torchrun(cls) -> "World":
        """The world that torchrun made, not joined yet; of one rank if torchrun did not start this process."""
        if not dist.is_torchelastic_launched():
            return cls(0, 1)
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    def join(self, device: torch.device) -> None:
        """Meets the other ranks: by gloo, and by NCCL for what is on a GPU, of which each rank takes its own.

        Raises:
            ValueError: this machine has fewer GPUs than ranks.
            Gone: not all of them came.
        """
        if dist.is_initialized():  # they have met
            return
        # torchrun may be killed; what it started must not outlive it.
        end_with_parent()(signal.SIGKILL)
        here, ranks = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if device.type == "cuda":
            if ranks > torch.cuda.device_count():
                raise ValueError(
                    f"{ranks} ranks on a machine with {torch.cuda.device_count()} GPUs:"
                    " use --nproc-per-node with as many as there are GPUs, or --device cpu"
                )
            torch.cuda.set_device(here)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        self._or_gone(lambda: dist.init_process_group(backend, timeout=PATIENCE))

    def leave(self) -> None:
        """Ends the connections."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def average(self, parameters: list[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the ranks, the same bits on each."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([x.flatten() for x in gradients])
        self._or_gone(lambda: dist.all_reduce(flat))
        flat /= self.size
        for x, mean in zip(gradients, flat.split([x.numel() for x in gradients]), strict=True):
            x.copy_(mean.view_as(x))

    def all_gather(self, x: Tensor) -> Tensor:
        """What every rank has on its CPU: a tensor [...] from each to [size, ...]."""
        parts = [torch.empty_like(x) for _ in range(self.size)]
        self._or_gone(lambda: dist.all_gather(parts, x))
        return torch.stack(parts)

    def all(self, holds: bool) -> bool:
        """Whether something holds on every rank."""
        return bool(self.all_gather(torch.tensor(holds)).all())

    def send(self, content: bytes, rank: int) -> None:
        """Hands bytes to one rank, which must `receive` them."""
        self._or_gone(lambda: dist.send(torch.tensor([len(content)]), rank))
        if content:
            self._or_gone(lambda: dist.send(torch.frombuffer(bytearray(content), dtype=torch.uint8), rank))

    def receive(self, rank: int) -> bytes:
        """Waits for what one rank sends."""
        length = torch.empty(1, dtype=torch.int64)
        self._or_gone(lambda: dist.recv(length, rank))
        content = torch.empty(int(length), dtype=torch.uint8)
        if len(content):
            self._or_gone(lambda: dist.recv(content, rank))
        return content.numpy().tobytes()

    def tell(self, text: str) -> str:
        """What the first rank says, on all of them."""
        if self.rank:
            return self.receive(0).decode()
        for rank in range(1, self.size):
            self.send(text.encode(), rank)
        return text

    def _or_gone(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except RuntimeError as error:  # torch has no narrower one for gloo
            raise Gone(f"another rank is gone ({str(error).splitlines()[0]:.120})") from None
