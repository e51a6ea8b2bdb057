"""Sampling in proportion to priority."""

import numpy as np


class SumTree:
    """Non-negative float64 priorities with O(log n) set and find, many at a time.

    `nodes[1]` is the sum of all leaves; node i has children 2i and 2i + 1; leaf i is at size + i.
    Parents are recomputed from their children, so sums never drift.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.size = 1 << max(capacity - 1, 1).bit_length()
        self.nodes = np.zeros(2 * self.size)

    @property
    def leaves(self) -> np.ndarray:
        """Every priority, [capacity]."""
        return self.nodes[self.size : self.size + self.capacity]

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self.nodes[1])

    def __getitem__(self, leaf: np.ndarray) -> np.ndarray:
        return self.nodes[self.size + leaf]

    def __setitem__(self, leaf: np.ndarray, priority: np.ndarray | float) -> None:
        node = self.size + np.asarray(leaf)
        self.nodes[node] = priority
        while node[0] > 1:  # all are on one level; to sum a parent twice costs less than to find out
            node = node >> 1
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """Leaf i for which sum(leaves before i) <= mass < sum(leaves up to i); never an empty one."""
        node = np.ones(len(mass), np.int64)
        while node[0] < self.size:
            left = self.nodes[2 * node]
            right = (mass >= left) & (self.nodes[2 * node + 1] > 0)
            mass = mass - right * left
            node = 2 * node + right
        return node - self.size
