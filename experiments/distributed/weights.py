"""A network's weights in shared memory: one process writes them, many read them, nobody ever waits."""

import torch
from torch import Tensor, nn

from experiments.distributed.blocks import ALIGNED, carve, size_of
from experiments.distributed.shared import SharedMemory

BEGUN, FINISHED, AGENT_STEPS = range(3)


def weights_of(network: nn.Module) -> tuple[Tensor, ...]:
    """Parameters and buffers in a fixed order, and a place for the version, int64 [1]."""
    return torch.zeros(1, dtype=torch.int64), *network.state_dict().values()


def memory_for(network: nn.Module) -> SharedMemory:
    """Room for a head and two copies of a network's weights."""
    return SharedMemory(ALIGNED + 2 * size_of(weights_of(network)))


class Weights:
    """A network's weights, of which the newest whole copy can always be read.

    There are two copies in turn: while one is written, the other is whole. A reader that was overtaken while it
    read sees that by the number of the copy that was begun, and reads again. Nothing is locked, so a process that is
    killed holds nobody up.

    Args:
        memory: from `memory_for`.
        network: whose weights are written or read here.
    """

    def __init__(self, memory: SharedMemory, network: nn.Module):
        self.network = network
        self.head = memory.bytes[:ALIGNED].view(torch.int64).numpy()
        copies, size = memory.bytes[ALIGNED:], size_of(weights_of(network))
        self.copies = [carve(part, weights_of(network)) for part in (copies[:size], copies[size:])]

    def publish(self, version: int) -> None:
        """Writes the network's weights.

        Args:
            version: updates that they have seen.
        """
        number = int(self.head[FINISHED]) + 1
        self.head[BEGUN] = number
        target, *tensors = self.copies[number % 2]
        target.fill_(version)
        with torch.no_grad():
            for to, x in zip(tensors, self.network.state_dict().values(), strict=True):
                to.copy_(x)
        self.head[FINISHED] = number

    def load(self) -> int:
        """Reads the newest weights into the network; returns their version."""
        while True:
            number = int(self.head[FINISHED])
            version, *tensors = self.copies[number % 2]
            found = int(version)
            with torch.no_grad():
                for x, source in zip(self.network.state_dict().values(), tensors, strict=True):
                    x.copy_(source)
            if int(self.head[BEGUN]) < number + 2:
                return found

    @property
    def agent_steps(self) -> int:
        """Of all players, as the learner has counted them."""
        return int(self.head[AGENT_STEPS])

    @agent_steps.setter
    def agent_steps(self, count: int) -> None:
        self.head[AGENT_STEPS] = count
