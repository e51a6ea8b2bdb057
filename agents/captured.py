"""Many operations on a GPU as one launch."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from agents.sequence import tree_leaves, tree_map

MOST = 16  # shapes that are recorded; each keeps its memory on the GPU
WARM_UP = 3  # calls before one is recorded: libraries choose their kernels, and an optimiser makes its statistics


class Captured:
    """A function of nested (named) tuples of tensors on a GPU, recorded as a CUDA graph and from then on replayed.

    To launch the operations of a small network one by one takes Python longer than it takes a GPU to carry them out.
    For the first few shapes of the arguments some calls are carried out as usual, then one is recorded. All of them
    count: whatever the function changes is changed once a call. Random numbers are those that it draws anyway.

    Args:
        function: what it does depends on nothing but the shapes of its arguments and `kind`: Python runs it no more.
        kind: what else decides what it does, such as whether a network is in training mode.
        copies: hand out copies, of tensors in nested tuples; else the next call overwrites what is returned.
    """

    def __init__(self, function: Callable, kind: Callable[[], Any] = lambda: None, copies: bool = False):
        self.function, self.kind, self.copies = function, kind, copies
        self.calls: Counter[Any] = Counter()
        self.recorded: dict[Any, tuple[list[torch.Tensor], torch.cuda.CUDAGraph, Any]] = {}
        self.stream: torch.cuda.Stream | None = None

    def __call__(self, *args: Any) -> Any:
        leaves = tree_leaves(args)
        key = (self.kind(), *((x.shape, x.dtype) for x in leaves))
        if key not in self.recorded:
            if self.calls[key] < WARM_UP or len(self.recorded) == MOST:
                self.calls[key] += 1
                return self._as_usual(args)
            self.recorded[key] = self._record(args)
        inputs, graph, result = self.recorded[key]
        for mine, given in zip(inputs, leaves, strict=True):
            mine.copy_(given, non_blocking=True)  # what is on the host stays there
        graph.replay()
        return tree_map(torch.clone, result) if self.copies else result

    def forget(self) -> None:
        """Records anew: tensors that the function works with, and was not given, are others now."""
        self.recorded.clear()
        self.calls.clear()

    def _as_usual(self, args: Any) -> Any:
        """On a stream of its own, where what autograd keeps from call to call is made."""
        self.stream = self.stream or torch.cuda.Stream()
        now = torch.cuda.current_stream()
        self.stream.wait_stream(now)
        with torch.cuda.stream(self.stream):
            result = self.function(*args)
        now.wait_stream(self.stream)
        return result

    def _record(self, args: Any) -> tuple[list[torch.Tensor], torch.cuda.CUDAGraph, Any]:
        """(inputs, graph, result): what is in the inputs when the graph is replayed decides what is in the result."""
        mine, graph = tree_map(torch.clone, args), torch.cuda.CUDAGraph()
        # Other threads may call CUDA meanwhile.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            result = self.function(*mine)
        return tree_leaves(mine), graph, result
