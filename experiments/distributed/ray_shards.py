"""Replay shards as Ray actors, which players fill without a detour, and which send batches by the chunk."""

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.replay import ReplayBase, ReplayConfig
from agents.sequence import Sequence, below
from agents.shards import Shards
from experiments.checks import NoRoom, replay_bytes
from experiments.config import Experiment
from experiments.distributed.blocks import Block, block_rows
from experiments.distributed.cluster import get, nodes, on_node, to_arrays, to_tensors
from experiments.files import RunError
from experiments.limits import available_memory
from experiments.segments import Segments

CHUNK = 8  # batches sent at once, by all machines: what a message costs is shared by so many
CHUNK_BYTES = 256e6  # at most, of one machine: two chunks of each wait in the learner's memory


class Offered(NamedTuple):
    """A block that waits beside its shard, until the learner has heard of it."""

    number: int
    steps: int  # agent steps in it


class Part(Shards):
    """The shards of some players. Schedules go by the agent steps of all players."""

    steps_added: Any = 0


class ShardActor:
    """The process of some players' shards.

    Args:
        seed: of what is drawn.
        players: whose; in `Part` they are numbered in this order.
        rows: of a block.
        example: one row of one shard, as arrays.
    """

    def __init__(
        self, config: ReplayConfig, num_envs: int, length: int, seed: list[int], players: list[int], rows: int,
        example: Any,
    ):  # fmt: skip
        torch.set_num_threads(1)
        self.experience = Part(config, num_envs, length, seed[0], len(players), to_tensors(example))
        self.seed, self.players, self.rows = seed, players, rows
        self.folder: Path | None = None
        self.begin_drawing(0)
        self.life = dict.fromkeys(players, -1)
        self.waiting: dict[tuple[int, int], Block] = {}

    def begin_drawing(self, updates: int) -> None:
        """From here on it draws as nobody else does, and not as before that many updates."""
        self.experience.rng = np.random.default_rng([*self.seed, updates])

    def begin(self, player: int, life: int) -> int:
        """From now on only this life of a player counts; returns the number of its first block."""
        self.life[player] = life
        self.waiting = {key: block for key, block in self.waiting.items() if key[0] != player}
        return self._shard(player).rows_added // self.rows

    def offer(self, player: int, life: int, number: int, arrays: Any) -> Offered:
        """Takes a block, unless it comes from a player that was given up; it is not in the shard before `accept`."""
        block = Block(*to_tensors(arrays))
        if life == self.life[player]:
            self.waiting[player, number] = block
        return Offered(number, block.action.numel() - int(block.step.last.sum()))

    def accept(self, player: int, number: int, largest: float) -> float:
        """Appends a block to its shard; returns the total of priorities. Only the learner asks, so that what is in
        the shards is what it has counted.

        Args:
            largest: priority that the learner has set anywhere.
        """
        assert number * self.rows == (have := self._shard(player).rows_added), (number, have)
        self.experience.meet(largest)
        self.experience.extend(self.players.index(player), self.waiting.pop((player, number)))
        return self.total()

    def total(self) -> float:
        """Of all priorities."""
        return sum(float(shard.tree.total) for shard in self.experience.shards)

    def free(self) -> int:
        """Bytes of memory that this machine has to give."""
        return available_memory(torch.device("cpu"))

    def sample(self, count: int, agent_steps: int) -> list[Any]:
        """So many batches, as arrays.

        Args:
            agent_steps: of all players.
        """
        self.experience.steps_added = agent_steps
        batch = self.experience.config.batch_size
        return [to_arrays(tuple(self.experience.sample(batch))) for _ in range(count)]

    def update(self, ids: np.ndarray, priority: np.ndarray) -> None:
        """Sets the priorities [B] of a batch."""
        self.experience.update(*to_tensors((ids, priority)))

    def state(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Facts and arrays of each player's shard."""
        found = (shard.state() for shard in self.experience.shards)
        return [(facts, {name: x.numpy() for name, x in tensors.items()}) for facts, tensors in found]

    def restore(self, parts: list[tuple[dict[str, Any], dict[str, Any]]], example: Any, updates: int) -> float:
        """Takes up a `state` of after so many updates; `read` fills the rows."""
        self.begin_drawing(updates)
        row = to_tensors(example)
        for shard, (facts, arrays) in zip(self.experience.shards, parts, strict=True):
            shard.restore(facts, {name: to_tensors(x) for name, x in arrays.items()}, row)
        return self.total()

    def sees(self, folder: Path) -> bool:
        """Whether a folder of the learner's machine is one here, too; if so, rows are kept there.

        Asked again for the same one, it goes on with the files there: what was read from them is written already.
        """
        if folder.is_dir() and folder != self.folder:
            self.folder, self.segments = folder, [Segments(folder / str(player)) for player in self.players]
        return folder.is_dir()

    def write(self) -> list[dict[str, Any]]:
        """A manifest of each player's rows on disk."""
        return [part.write(shard) for part, shard in zip(self.segments, self.experience.shards, strict=True)]

    def read(self, manifests: list[dict[str, Any]]) -> None:
        for part, shard, manifest in zip(self.segments, self.experience.shards, manifests, strict=True):
            part.read(shard, manifest)

    def forget(self, manifests: list[list[dict[str, Any]]]) -> None:
        for part, own in zip(self.segments, manifests, strict=True):
            part.forget(own)

    def _shard(self, player: int) -> Any:
        return self.experience.shards[self.players.index(player)]


class RayShards(ReplayBase):
    """All shard actors, seen from the learner: what `Shards` is to a single process.

    There is one on every machine of the cluster, for players that are placed there, too. A batch is drawn from one of
    them, chosen by its share of all priorities, so that each sequence is drawn as likely as from one replay. The next
    chunk of each is on its way while one is learned from: priorities take effect up to 2 chunks late.

    Args:
        example: one row of one player, (step, action, note, state).
        device: where batches go.

    Raises:
        NoRoom: a machine has less memory than its shards take.
    """

    def __init__(self, ray: Any, x: Experiment, length: int, example: Any, device: torch.device):
        assert x.replay is not None
        self.ray, self.config, self.device = ray, x.replay, device
        machines = nodes(ray)[: x.players]
        self.groups = [list(range(s, x.players, len(machines))) for s in range(len(machines))]
        self.machines, self.actors = machines, []
        kind = ray.remote(num_cpus=0)(ShardActor)
        for s, players in enumerate(self.groups):
            share = replace(x.replay, capacity=x.replay.capacity * len(players) // x.players)
            games, rows = x.num_envs * len(players) // x.players, block_rows(x)
            args = (share, games, length, [x.seed, s + 1], players, rows, to_arrays(example))
            self.actors.append(kind.options(scheduling_strategy=on_node(machines[s])).remote(*args))
        self._check_room(x)
        batch_bytes = x.replay.batch_size * length * example[0].obs[0].nbytes
        self.chunk = max(1, min(CHUNK // len(machines), int(CHUNK_BYTES / batch_bytes)))
        self.totals = np.zeros(len(self.actors))
        self.accepted: list[Any] = [None for _ in self.actors]  # the newest answer, which has the newest total
        self.steps_added = 0  # agent steps in all shards
        self.updates, self.max_priority = 0, 0.0  # the largest that was set
        self.rng = np.random.default_rng(x.seed)
        self._drop_chunks()

    def _check_room(self, x: Experiment) -> None:
        """As `check_memory` of a replay in one place."""
        share = replay_bytes(x, torch.device("cpu")) / x.players
        for machine, players, free in zip(
            self.machines, self.groups, get(self.ray, [actor.free.remote() for actor in self.actors]), strict=True
        ):
            if (needed := share * len(players)) > free:
                raise NoRoom(
                    f"the shards of {len(players)} players take {needed / 1e9:.1f} GB, and machine {machine:.8} of the"
                    f" cluster has {free / 1e9:.1f} GB free",
                    "lower --replay.capacity, or try --replay.storage compressed",
                )

    def _drop_chunks(self) -> None:
        self.ready: list[deque[Any]] = [deque() for _ in self.actors]
        self.asked: list[Any] = [None for _ in self.actors]

    def of(self, player: int) -> Any:
        """The actor that has a player's shard."""
        return self.actors[player % len(self.actors)]

    def extend(self, player: int, offered: Offered) -> None:
        """Lets a player's block into its shard, and counts it."""
        self.accepted[player % len(self.actors)] = self.of(player).accept.remote(
            player, offered.number, self.max_priority
        )
        self.steps_added += offered.steps

    def sample(self, batch_size: int) -> Sequence:
        """The next batch of a chunk, whose size the shards know."""
        for i, answer in enumerate(self.accepted):
            if answer is not None:
                self.totals[i], self.accepted[i] = get(self.ray, answer), None
        if not np.isfinite(total := self.totals.sum()):
            raise RunError(
                "priorities are no numbers any more, so the loss is none; try a lower --optimiser.learning-rate or a"
                " --optimiser.clip-norm"
            )
        s = int(self.rng.choice(len(self.totals), p=self.totals / total))
        if not self.ready[s]:
            self.ready[s].extend(get(self.ray, self.asked[s] or self._ask(s)))
            self.asked[s] = self._ask(s)
        seq = Sequence(*to_tensors(self.ready[s].popleft(), self.device))
        return seq._replace(ids=seq.ids.cpu() * len(self.actors) + s)

    def _ask(self, s: int) -> Any:
        return self.actors[s].sample.remote(self.chunk, self.steps_added)

    def update(self, ids: Tensor, priority: Tensor) -> None:
        """Sets the priorities [B] of a batch, sooner or later."""
        if self.config.priority_exponent:
            count = len(self.actors)
            self.max_priority = max(self.max_priority, float(priority.max()))
            self.actors[int(ids[0]) % count].update.remote(*to_arrays((ids // count, priority)))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """As `Shards.state`: it does not depend on how many machines there are."""
        parts = self.spread(get(self.ray, [actor.state.remote() for actor in self.actors]))
        tensors = {
            f"{i}.{name}": torch.from_numpy(x.copy()) for i, part in enumerate(parts) for name, x in part[1].items()
        }
        facts = [facts for facts, _ in parts]
        return {"shards": facts, "updates": self.updates, "rng": self.rng.bit_generator.state}, tensors

    def restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], example: Any) -> None:
        """Takes up a `state`; whoever calls it then fills the rows.

        Raises:
            ValueError: it is not of such shards.
        """
        if len(facts["shards"]) != (count := sum(len(players) for players in self.groups)):
            raise ValueError(f"these are {len(facts['shards'])} shards, not {count}")
        parts = [
            (own, {name: x.numpy() for name, x in below(tensors, f"{i}.").items()})
            for i, own in enumerate(facts["shards"])
        ]
        asked = zip(self.actors, self.gathered(parts), strict=True)
        totals = get(
            self.ray, [actor.restore.remote(own, to_arrays(example), facts["updates"]) for actor, own in asked]
        )
        self.totals, self.accepted = np.array(totals), [None for _ in self.actors]
        self.steps_added = sum(own["steps_added"] for own in facts["shards"])
        self.updates, self.max_priority = facts["updates"], max(own["max_priority"] for own in facts["shards"])
        self.rng.bit_generator.state = facts["rng"]
        self._drop_chunks()

    def gathered(self, by_player: list[Any]) -> list[list[Any]]:
        """What each actor needs of a list with a place for every player."""
        return [[by_player[player] for player in players] for players in self.groups]

    def spread(self, by_actor: list[list[Any]]) -> list[Any]:
        """The inverse of `gathered`."""
        pairs = [
            pair for players, own in zip(self.groups, by_actor, strict=True) for pair in zip(players, own, strict=True)
        ]
        return [one for _, one in sorted(pairs, key=lambda pair: pair[0])]


class RaySegments:
    """The rows of all shards on disk, each written by its own actor; as `ShardSegments`.

    Raises:
        ValueError: not all machines see the folder.
    """

    def __init__(self, folder: Path, experience: RayShards):
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self.experience = experience
        if not all(self._ask("sees", [folder] * len(experience.actors))):
            raise ValueError(f"{folder} is not on all machines of the cluster; --runs must be a folder that they share")

    def _ask(self, method: str, args: list[Any] | None = None) -> list[Any]:
        asked = zip(self.experience.actors, args or [None] * len(self.experience.actors), strict=True)
        refs = [getattr(actor, method).remote(*([] if args is None else [one])) for actor, one in asked]
        return get(self.experience.ray, refs)

    def write(self, experience: Any) -> dict[str, Any]:
        """Appends the rows added since the last call; returns a manifest of all that the shards hold.

        Raises:
            OSError: the disk is full; the manifests returned before still hold.
        """
        return {"shards": self.experience.spread(self._ask("write"))}

    def read(self, experience: Any, manifest: dict[str, Any]) -> None:
        """Fills the shards with the rows of a manifest, and cuts off what was written after it.

        Raises:
            DamagedRows: a file is missing, short, or not what was written.
        """
        self._ask("read", self.experience.gathered(manifest["shards"]))

    def forget(self, manifests: list[dict[str, Any]]) -> None:
        """Removes the files that none of these manifests, and no later one, needs."""
        by_player = [list(own) for own in zip(*(manifest["shards"] for manifest in manifests), strict=True)]
        self._ask("forget", self.experience.gathered(by_player))
