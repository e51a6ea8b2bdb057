"""Players as Ray actors, on any machine of the cluster."""

import time
from typing import Any

import torch

from agents.agent import Agent
from experiments.config import Experiment
from experiments.distributed.blocks import Told, block_rows, carve, example_row, like, size_of
from experiments.distributed.cluster import get, on_node, to_arrays, to_tensors
from experiments.distributed.local import HEARING, SILENCE, slots_of
from experiments.distributed.player import Player
from experiments.distributed.ray_shards import Offered, RayShards
from experiments.distributed.roster import Roster


class PlayerActor:
    """The process of one player.

    Args:
        life: how many had its place before.
        block: number of its first block.
        shard: the actor that takes its blocks.
    """

    def __init__(self, x: Experiment, player: int, life: int, block: int, shard: Any):
        import ray

        torch.set_num_threads(1)
        self.ray, self.number, self.life, self.shard = ray, block, life, shard
        self.name, self.version = player, -1
        self.player = Player(x, player, life, block * block_rows(x))
        shape = like(x, example_row(x, self.player.agent))
        self.block = carve(torch.zeros(size_of(shape), dtype=torch.uint8), shape)

    def fill(self, weights: tuple[int, list[Any]], agent_steps: int) -> tuple[Told, Offered]:
        """Plays the steps of a block and lays them beside the shard.

        Args:
            weights: their version, and parameters and buffers as arrays.
            agent_steps: of all players, for the schedule of exploration.
        """
        version, arrays = weights
        if version != self.version:
            self.version = version
            with torch.no_grad():
                for x, new in zip(self.player.agent.acting.state_dict().values(), arrays, strict=True):
                    x.copy_(to_tensors(new))
        ended = self.player.fill(self.block, lambda: agent_steps)
        told = Told(self.name, self.number, 0, version, ended)
        arrays = to_arrays(tuple(self.block))
        offered = self.ray.get(self.shard.offer.remote(self.name, self.life, self.number, arrays))
        self.number += 1
        return told, offered


class RayPlayers(Roster):
    """Starts the players' actors, hears of their blocks, and replaces those that die."""

    def __init__(self, ray: Any, x: Experiment, shards: RayShards, device: torch.device, started: bool):
        super().__init__(x.players)
        self.ray, self.x, self.shards, self.device, self.started = ray, x, shards, device, started
        self.kind = ray.remote(num_cpus=1)(PlayerActor)
        self.actors: dict[int, Any] = {}
        self.filling: dict[Any, int] = {}  # what was promised, and by which player, in the order asked
        self.agent_steps, self.weights = 0, None
        self.heard: dict[int, float] = {}  # when each player last gave a block, or was started
        self.silent_since = 0.0  # by the monotonic clock, while nobody gives one; 0: somebody does

    def publish(self, agent: Agent, agent_steps: int) -> None:
        """Gives all players the agent's weights from their next block on, and starts those that are not there yet."""
        arrays = [x.detach().cpu().numpy().copy() for x in agent.acting.state_dict().values()]
        self.weights, self.agent_steps = self.ray.put((agent.updates, arrays)), agent_steps
        for player in range(self.count):
            if player not in self.actors:
                self._start(player)

    def recv(self) -> tuple[Offered, Told] | None:
        """Waits until the next block of any player is beside its shard, for `RayShards.extend`; None: none came for a
        second.

        Raises:
            NobodyPlays: a player dies again and again.
            Lost: a shard is gone.
        """
        while True:
            began = time.monotonic()
            done, _ = self.ray.wait(list(self.filling), num_returns=1, timeout=HEARING)
            self.waited += time.monotonic() - began
            if not done:
                self.silent_since = self.silent_since or began
                if time.monotonic() - self.silent_since >= SILENCE:
                    self.silent_since = 0.0
                    for player in list(self.actors):
                        self.replace(player, f"said nothing for {SILENCE:.0f} s")
                return None
            self.silent_since = 0.0
            player = self.filling[done[0]]
            # Of several blocks that are there, Ray may name any: the player's first comes first.
            oldest = next(ref for ref, whose in self.filling.items() if whose == player)
            del self.filling[oldest]
            try:
                told, offered = self.ray.get(oldest)
            except self.ray.exceptions.RayError as error:
                self.replace(player, f"is gone ({type(error).__name__})")
                continue
            self.blocks[player], self.deaths[player] = told.number + 1, 0
            self.heard[player] = time.monotonic()
            self._name_the_silent()
            return offered, told

    def release(self, told: Told) -> None:
        """Lets a player fill another block."""
        self._ask(told.player)

    def close(self) -> None:
        """Ends every player and shard, and the cluster if it was started for them."""
        for actor in [*self.actors.values(), *self.shards.actors]:
            self.ray.kill(actor)
        self.actors.clear()
        if self.started:
            self.ray.shutdown()

    def _name_the_silent(self) -> None:
        """Says which players give nothing while others do: Ray lets an actor wait for a CPU without a word."""
        now = time.monotonic()
        for player in [player for player, heard in self.heard.items() if now - heard > SILENCE]:
            self.heard[player] = now
            oldest = next(ref for ref, whose in self.filling.items() if whose == player)
            if not self.ray.wait([oldest], timeout=0)[0]:  # else the learner was busy
                self.say(
                    f"player {player} has played nothing for {SILENCE:.0f} s, while others do. Each takes a CPU:"
                    " `ray status` shows what is free; begin with fewer --players, or add a machine"
                )

    def _ask(self, player: int) -> None:
        self.filling[self.actors[player].fill.remote(self.weights, self.agent_steps)] = player

    def _end(self, player: int) -> None:
        self.ray.kill(self.actors.pop(player))
        self.filling = {ref: whose for ref, whose in self.filling.items() if whose != player}

    def _start(self, player: int) -> None:
        life, shard = self.lives[player], self.shards.of(player)
        self.lives[player] += 1
        self.heard[player] = time.monotonic()
        self.blocks[player] = get(self.ray, shard.begin.remote(player, life))
        where = on_node(self.shards.machines[player % len(self.shards.machines)])
        begin = (self.x, player, life, self.blocks[player], shard)
        self.actors[player] = self.kind.options(scheduling_strategy=where).remote(*begin)
        for _ in range(slots_of(self.x)):
            self._ask(player)
