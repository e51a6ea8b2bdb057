"""Experience replay: a ring of steps, sampled as sequences."""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from agents.captured import Captured
from agents.explore import Linear
from agents.frames import frame_ring, stack_frames, take, zeros
from agents.sequence import Sequence, onto, tree_leaves, tree_map
from agents.sumtree import SumTree
from envs.timestep import TimeStep, copy_to_host

STEP_BYTES = 8 + 4 + 3 + 8  # of a step besides its frame: previous action, reward, flags, action
PRIORITY_FLOOR = 1e-6  # added to every priority, so that what may be drawn never has 0


@dataclass(frozen=True)
class ReplayConfig:
    """What is remembered, and how often it is learned from."""

    capacity: int = 1_000_000
    """agent steps remembered, over all games; a million take 7.1 GB"""
    batch_size: int = 32
    """sequences per update"""
    learn_start: int = 20_000
    """agent steps before those that pay for updates: the first comes a learn_period later"""
    learn_period: float = 4.0
    """agent steps per update, whatever the number of games"""
    priority_exponent: float = 0.0
    """alpha of Schaul et al. (2016), eq. 1; 0 samples uniformly"""
    importance_exponent: Linear = Linear(0.4, 1.0, 50_000_000)
    """beta (ibid., sec. 3.4), by agent steps"""
    initial_priority: Literal["largest", "player"] = "largest"
    """of a new sequence: the largest so far (ibid., algorithm 1), or what the player that saw it finds, if there are
    players (Horgan et al. 2018, sec. 3)"""
    stride: int = 1
    """sequences begin at every stride-th step, and the memory before a step is kept for those only"""
    storage: Literal["auto", "ram", "compressed", "disk", "cuda"] = "auto"
    """where frames are kept: ram, in this machine's memory; compressed, there without loss in less room (a twentieth
    of it, for half of Atari's games); disk, in a file in the folder for temporary files; cuda, on the GPU; auto,
    beside the agent, or without room there in ram, or compressed"""

    def planned_updates(self, agent_steps: int) -> int:
        """Updates that so many agent steps pay for."""
        return max(int((agent_steps - self.learn_start) // self.learn_period), 0)

    def annealing(self, agent_steps: int) -> tuple[int, int]:
        """(agent steps over which a rate falls to 0, agent steps before) in a training of so many."""
        return agent_steps - self.learn_start, self.learn_start

    def bytes_needed(
        self, frame_bytes: int, state_bytes: int = 0, steps: int | None = None, compressed: float = 0.3,
        note_bytes: int = 0,
    ) -> int:  # fmt: skip
        """Memory of a full replay: frames, flags, the sum tree, and what was remembered.

        Args:
            frame_bytes: of the newest frame of one step; on disk they take no memory.
            state_bytes: of the agent's memory in one game, kept for every `stride`-th step.
            steps: agent steps that are ever added, if they are fewer than it has room for.
            note_bytes: of what the agent wrote down as it acted in one game.
            compressed: the share of a frame that is left of it: of Atari's 0.25 at most in random play, on YarsRevenge.
        """
        steps = self.capacity if steps is None else min(steps, self.capacity)
        frame_bytes = {"compressed": math.ceil(frame_bytes * compressed), "disk": 0}.get(self.storage, frame_bytes)
        leaves = 1 << max(self.capacity - 1, 1).bit_length()
        kept = steps // self.stride * state_bytes
        return steps * (frame_bytes + STEP_BYTES + note_bytes) + kept + 2 * leaves * 8  # the sum tree is in float64


def importance_weights(probability: np.ndarray, exponent: float) -> np.ndarray:
    """w_i = (N P(i))^-beta / max_j w_j over the batch [B] (Schaul et al. 2016, sec. 3.4); N cancels."""
    return (probability / probability.min()) ** -exponent


class ReplayBase(ABC):
    """What every replay has: each `learn_period` agent steps that are added allow one update.

    Attributes:
        steps_added: agent steps that were added.
        updates: batches handed out.
        waits: it never does: what is learned from was played long ago.
    """

    waits: ClassVar = False
    config: ReplayConfig
    steps_added: Any
    updates: int

    @abstractmethod
    def sample(self, batch_size: int) -> Sequence:
        """A batch of sequences, drawn with P(i) = p_i^alpha / sum_k p_k^alpha (Schaul et al. 2016, eq. 1)."""

    def batches(self, room: Callable[[], int] = lambda: 1) -> Iterator[tuple[Sequence, int]]:
        """One batch for every `learn_period` agent steps added that have had none yet.

        Args:
            room: how many of them may be drawn at once, from more places; comes with each sequence.
        """
        while (due := self.planned_updates(self.steps_added) - self.updates) > 0:
            count = min(due, room())
            self.updates += count
            yield self.sample(count * self.config.batch_size), count

    def annealing(self, agent_steps: int) -> tuple[int, int]:
        """(agent steps over which a rate falls to 0, agent steps before) in a training of so many."""
        return self.config.annealing(agent_steps)

    def planned_updates(self, agent_steps: int) -> int:
        """Updates that so many agent steps will pay for."""
        return self.config.planned_updates(agent_steps)


class Replay(ReplayBase):
    """Keeps the last `capacity` steps of N games, a column per game, where the TimeSteps live.

    Frames are kept once and stacked when sampled. A sequence may span episodes: networks clear their memory at
    `first`, and losses skip `last`. Starts whose history or future is not in the ring have priority 0, and with a
    stride of 1 also those on a `last`. If the next row is a `first`, a row counts as a `last`, even if it was not one
    when it was added: what its action led to was lost when a game or its player was replaced.

    A row is one step of every game, numbered from the first ever added; it lies at row % size. Its column n has the
    leaf (row % size) * N + n, in the rings and in the sum tree, where it stands for the sequence that begins there. An
    id, row * N + n, tells that sequence from those that overwrite it.

    Args:
        length: agent steps per sequence.
        captured: on a GPU, what is sampled is looked up in one launch, recorded for each size of a batch.

    Raises:
        ValueError: the capacity is too small for so many games and such sequences.
    """

    def __init__(self, config: ReplayConfig, num_envs: int, length: int, seed: int = 0, captured: bool = True):
        self.config, self.num_envs, self.length, self.captured = config, num_envs, length, captured
        self.size = config.capacity // num_envs // config.stride * config.stride  # rows of the ring
        if self.size < 2 * (length + 8):
            raise ValueError(
                f"a replay of {config.capacity} steps is too small for {num_envs} games; raise --replay.capacity"
            )
        self.tree = SumTree(self.size * num_envs)
        self.rng = np.random.default_rng(seed)
        self.rows_added = 0
        self.steps_added = 0  # agent steps: rows times games, less the rows whose action meant nothing
        self.updates = 0  # batches handed out
        self.max_priority = 1.0  # the largest seen so far, given to what is new
        self.rows: Any = None
        self.stack = 0
        self.recent: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=length)  # flags of the last rows
        self._look_up: Callable[..., Any] = self._read
        self._pending: tuple[Tensor, Tensor, torch.cuda.Event] | None = None

    def add(
        self, step: TimeStep, action: Tensor, note: Any = (), state: Any = (), on_host: TimeStep | None = None
    ) -> None:
        """Appends one step of every game: what was seen, then done and noted, and the memory before it.

        Args:
            on_host: the step's flags on the host; without them those of a GPU are waited for.
        """
        if self.rows is None:
            self.allocate((step, action, note, state))
        row = (step._replace(obs=step.obs[:, -1]), action, note)
        at = self.rows_added % self.size
        for ring, new in zip(tree_leaves(self.rows[:3]), tree_leaves(row), strict=True):
            ring[at] = new
        if at % self.config.stride == 0:  # no sequence begins elsewhere
            for ring, new in zip(tree_leaves(self.rows[3]), tree_leaves(state), strict=True):
                ring[at // self.config.stride] = new
        flags = step if on_host is None else on_host
        first, last = (x.cpu().numpy().copy() for x in (flags.first, flags.last))
        self.recent.append((first, last))
        self._appended(1, np.full((1, self.num_envs), np.nan))
        self.steps_added += self.num_envs - int(last.sum())

    def extend(self, step: TimeStep, action: Tensor, note: Any, state: Any, priority: Tensor) -> None:
        """Appends K steps in a row of every game, played elsewhere; the rows must have been allocated.

        Args:
            step: [K, N, ...], of each only the newest frame.
            action, note: [K, N, ...].
            state: [K', N, ...], the memory before each of the steps at which a sequence may begin.
            priority: float [K, N], of the sequences that each step is the last of; NaN for the largest seen so far.
        """
        assert len(action) + self.length + self.stack < self.size, (len(action), self.size)
        at = torch.arange(self.rows_added, self.rows_added + len(action)) % self.size
        for ring, new in zip(tree_leaves(self.rows[:3]), tree_leaves((step, action, note)), strict=True):
            ring[at] = new
        self.recent.clear()
        kept = at[at % self.config.stride == 0] // self.config.stride
        for ring, new in zip(tree_leaves(self.rows[3]), tree_leaves(state), strict=True):
            ring[kept] = new
        self._appended(len(action), priority.cpu().double().numpy())
        self.steps_added += action.numel() - int(step.last.sum())

    def sample(self, batch_size: int) -> Sequence:
        """A batch of sequences, drawn with P(i) = p_i^alpha / sum_k p_k^alpha (Schaul et al. 2016, eq. 1)."""
        self._apply_pending()
        leaf = self.tree.find(self.rng.random(batch_size) * self.tree.total)
        weight = importance_weights(self.tree[leaf], self.config.importance_exponent(self.steps_added))
        seq = self.gather(leaf)
        return seq._replace(weight=onto(seq.action.device, torch.as_tensor(weight, dtype=torch.float32)))

    def gather(self, leaf: np.ndarray) -> Sequence:
        """The sequences that begin at some leaves [B], each of weight 1."""
        device, start = self.rows[1].device, torch.as_tensor(leaf)
        hops = torch.arange(1 - self.stack, self.length)[:, None] * self.num_envs
        window = (start + hops) % (self.size * self.num_envs)  # in the ring's leaves: [stack - 1 + length, B]
        row = start // self.num_envs // self.config.stride
        state_leaf = row * self.num_envs + start % self.num_envs
        step, first, action, note, state = self._look_up(onto(device, window), onto(device, state_leaf))
        if not isinstance(step.obs, Tensor):  # others gather on the host, which waits for no GPU
            step = step._replace(obs=stack_frames(self.rows[0].obs, window, first, self.stack))
        ones, ids = torch.ones(len(leaf), device=device), torch.as_tensor(self._id_of(leaf))
        return Sequence(step, action, note, state, ones, ids)

    def _read(self, window: Tensor, state_leaf: Tensor) -> tuple[TimeStep, Tensor, Tensor, Any, Any]:
        """What lies at some leaves of the rings: (step, first [stack - 1 + length, B], action, note, state).

        Frames only if they are in a tensor, too.

        Args:
            window: int64 [stack - 1 + length, B], the steps of each sequence and those with frames in their stacks.
            state_leaf: int64 [B], where the memory before it is.
        """
        rows, frames = self.rows, self.rows[0].obs
        steps = window[self.stack - 1 :]
        step, action, note = tree_map(lambda ring: take(ring, steps), (rows[0]._replace(obs=()), *rows[1:3]))
        first = take(rows[0].first, window)
        ends = torch.cat([step.last[:-1] | step.first[1:], step.last[-1:]])
        obs = stack_frames(frames, window, first, self.stack) if isinstance(frames, Tensor) else ()
        state = tree_map(lambda ring: take(ring, state_leaf), rows[3])
        return step._replace(obs=obs, last=ends), first, action, note, state

    def update(self, ids: Tensor, priority: Tensor) -> None:
        """Sets the priorities [B] of sequences that `sample` returned; any overwritten since stay unsampled.

        Those of a GPU are waited for when they are needed first.
        """
        if self.config.priority_exponent == 0:
            return
        self._apply_pending()
        if priority.device.type == "cpu":
            self._set(ids, priority)
        else:
            self._pending = ids, *copy_to_host(priority)

    def _apply_pending(self) -> None:
        """Sets priorities that were on their way."""
        if self._pending is not None:
            (ids, priority, arrived), self._pending = self._pending, None
            arrived.synchronize()
            self._set(ids, priority)

    def _set(self, ids: Tensor, priority: Tensor) -> None:
        leaf = ids.numpy() % (self.size * self.num_envs)
        new = priority.numpy().astype(np.float64) + PRIORITY_FLOOR
        alive = (self._id_of(leaf) == ids.numpy()) & (self.tree[leaf] > 0)
        self.max_priority = max(self.max_priority, float(new.max()))
        if alive.any():
            self.tree[leaf[alive]] = new[alive] ** self.config.priority_exponent

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """All but the rows, as JSON-able facts and tensors; the rows are `oldest` to `rows_added`."""
        self._apply_pending()
        facts = {
            "rows_added": self.rows_added, "steps_added": self.steps_added, "updates": self.updates,
            "max_priority": self.max_priority, "rng": self.rng.bit_generator.state,
        }  # fmt: skip
        return facts, {"priorities": torch.from_numpy(self.tree.leaves.copy())}

    def restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], example: Any) -> None:
        """Takes up a `state`; whoever calls it then fills the rows.

        Args:
            example: one row, (step, action, note, state), as given to `add`.

        Raises:
            ValueError: tensors of another shape.
        """
        priorities = tensors["priorities"]
        if priorities.shape != (self.size * self.num_envs,) or priorities.dtype != torch.float64:
            raise ValueError("these are not the priorities of such a replay")
        self.rows = None  # what a shard had, or a GPU would keep both
        self.allocate(example)
        self.tree[np.arange(self.size * self.num_envs)] = priorities.numpy()
        self.recent.clear()
        self.rows_added, self.steps_added = facts["rows_added"], facts["steps_added"]
        self.updates, self.max_priority = facts["updates"], facts["max_priority"]
        self.rng.bit_generator.state = facts["rng"]

    def allocate(self, row: Any) -> None:
        """Makes room for rows like (step, action, note, state)."""
        step, action, note, state = row
        self.stack = step.obs.shape[1]
        rest, *every = tree_map(lambda x: zeros(self.size, x), (step._replace(obs=()), action, note))
        rest = rest._replace(obs=frame_ring(self.config.storage, self.size, step.obs[:, -1]))
        self.rows = (rest, *every, tree_map(lambda x: zeros(self.size // self.config.stride, x), state))
        on_gpu = isinstance(self.rows[0].obs, Tensor) and action.device.type == "cuda"
        self._look_up = Captured(self._read, copies=True) if on_gpu and self.captured else self._read

    @property
    def oldest(self) -> int:
        """The number of the oldest row that is kept; rows are counted from the first ever added."""
        return max(self.rows_added - self.size, 0)

    def _ended(self, row: np.ndarray) -> np.ndarray:
        """Which of the steps in some rows [K] are the last of their episodes, [K, N]; the next rows must be there."""
        if not len(row):
            return np.zeros((0, self.num_envs), bool)
        if len(row) == 1 and len(self.recent) == self.length:  # it is the oldest of them
            return (self.recent[0][1] | self.recent[1][0])[None]
        at = torch.from_numpy(row % self.size)
        return (self.rows[0].last[at] | self.rows[0].first[(at + 1) % self.size]).cpu().numpy()

    def _id_of(self, leaf: np.ndarray) -> np.ndarray:
        """Which of all steps ever added is now at a leaf: it tells a sequence from its successor there."""
        newest = self.rows_added - 1
        row = newest - (newest - leaf // self.num_envs) % self.size
        return row * self.num_envs + leaf % self.num_envs

    def _appended(self, count: int, priority: np.ndarray) -> None:
        """Counts rows that were just written: some starts are gone, and other sequences are now complete.

        Args:
            priority: [count, N], of the sequences that these rows complete; NaN for the largest seen so far.
        """
        self._apply_pending()
        rows = np.arange(self.rows_added, self.rows_added + count)
        self.rows_added += count
        # What was just overwritten cannot be a start, nor can those whose stacked history it was.
        gone = np.arange(rows[0], rows[-1] + self.stack)
        begin = rows - self.length + 1
        complete = (begin >= 0) & (begin % self.config.stride == 0)
        begin, new = begin[complete], priority[complete] + PRIORITY_FLOOR
        self.max_priority = float(np.nanmax(new, initial=self.max_priority))
        new = np.where(np.isnan(new), self.max_priority, new) ** self.config.priority_exponent
        row, columns = np.concatenate([gone, begin]) % self.size, np.arange(self.num_envs)
        if self.config.stride == 1:  # else the steps after it would be in no sequence
            new = np.where(self._ended(begin), 0.0, new)
        # Where a row is both, it is complete by now: numpy assigns in order.
        self.tree[(row[:, None] * self.num_envs + columns).ravel()] = np.pad(new, ((len(gone), 0), (0, 0))).ravel()
