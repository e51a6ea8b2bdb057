"""Players as processes of this machine; blocks and weights in memory that all of them see."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch
from torch import nn

from agents.agent import Agent
from agents.sequence import tree_map
from envs.gym_games import allow_files
from experiments.config import Experiment
from experiments.distributed.blocks import Block, Told, block_rows, carve, example_row, like, size_of
from experiments.distributed.player import Player
from experiments.distributed.roster import Roster
from experiments.distributed.shared import SharedMemory
from experiments.distributed.weights import Weights, memory_for
from experiments.interruption import ASKS

AHEAD = 2  # blocks of each player: one is filled while the other waits for the learner
COURTESY = 5  # added to the nice value of players: where cores are few, the learner goes first
SILENCE = 300.0  # seconds without a block from a player, after which it is replaced
HEARING = 1.0  # seconds without any block, after which who learns hears what it is asked to do
GRACE = 5.0  # seconds more, for all of them may have stood still together


def context() -> Any:
    """How processes are started: from one that has imported everything and done nothing, in a tenth of a second.

    Not as copies of the learner, which has threads and perhaps a GPU. Where that is not known to be safe, from
    nothing, in some seconds.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    return server


class Begin(NamedTuple):
    """Where a player takes its place up."""

    player: int
    life: int  # how many had its place before
    block: int  # number of its first block
    first_row: int  # rows that its shard has


class LocalPlayers(Roster):
    """Starts the players' processes, takes their blocks, and replaces those that die.

    Args:
        row: an example of one player's rows, see `example_row`.
    """

    def __init__(self, x: Experiment, row: Any, network: nn.Module, device: torch.device):
        super().__init__(x.players)
        self.x, self.device = x, device
        self.block = like(x, row)
        size = slots_of(x) * size_of(self.block)
        self.rooms = [SharedMemory(size) for _ in range(self.count)]
        self.slots = [slots(x, room, self.block) for room in self.rooms]
        self.weights_room = memory_for(network)
        self.weights = Weights(self.weights_room, network)
        self.context = context()
        self.processes: dict[int, Any] = {}
        self.pipes: dict[int, Connection] = {}
        self.ready: deque[int] = deque()  # players whose messages have not been read
        self.heard: dict[int, float] = {}  # when each player last gave a block, or was started
        allow_files()  # a player takes five

    def publish(self, agent: Agent, agent_steps: int) -> None:
        """Gives all players the agent's weights, and starts those that are not there yet."""
        self.weights.publish(agent.updates)
        self.weights.agent_steps = agent_steps
        for player in range(self.count):
            if player not in self.processes:
                self.start(player)

    def recv(self) -> tuple[Block, Told] | None:
        """Waits for the next block of any player; None: none came for a second.

        Raises:
            NobodyPlays: a player dies again and again.
        """
        while True:
            if not self.ready:
                began = time.monotonic()
                arrived = wait(list(self.pipes.values()), HEARING)
                self.waited += time.monotonic() - began
                self.ready.extend(player for player, pipe in self.pipes.items() if pipe in arrived)
                unheard = [player for player in self.pipes if time.monotonic() - self.heard[player] >= SILENCE]
                for player in unheard:
                    if player not in self.ready and not self.pipes[player].poll(GRACE):
                        self.replace(player, f"said nothing for {SILENCE:.0f} s")
            if not self.ready:
                return None
            player = self.ready.popleft()
            try:
                told = self.pipes[player].recv()
            except (EOFError, OSError):  # a message that was cut short, too, is of a block that never was
                process = self.processes[player]
                process.kill()
                process.join()
                self.replace(player, how_it_ended(process.exitcode))
                continue
            if isinstance(told, str):
                self.replace(player, told)
                continue
            assert told.number == self.blocks[player], (told, self.blocks)
            self.blocks[player] += 1
            self.deaths[player], self.heard[player] = 0, time.monotonic()
            block = self.slots[player][told.slot]
            parts = (block.step, block.action, block.note, block.state)
            step, action, note, state = tree_map(lambda x: x.to(self.device), parts)
            return block._replace(step=step, action=action, note=note, state=state), told

    def release(self, told: Told) -> None:
        """Lets a player fill a block again."""
        with suppress(OSError):  # it has died meanwhile: `recv` finds out
            self.pipes[told.player].send(told.slot)

    def close(self) -> None:
        """Ends every player."""
        for player in list(self.processes):
            self._end(player)

    def _start(self, player: int) -> None:
        ours, theirs = self.context.Pipe()
        rows = self.blocks[player] * len(self.block.action)
        begin = Begin(player, self.lives[player], self.blocks[player], rows)
        self.lives[player] += 1
        args = (self.x, begin, theirs, self.rooms[player], self.weights_room)
        process = self.context.Process(target=serve, args=args, name=f"player-{player}")
        with without_signals():
            process.start()
        theirs.close()
        self.processes[player], self.pipes[player], self.heard[player] = process, ours, time.monotonic()
        with suppress(OSError):  # it has died meanwhile: `recv` finds out
            for slot in range(slots_of(self.x)):
                ours.send(slot)

    def _end(self, player: int) -> None:
        self.pipes.pop(player).close()
        process = self.processes.pop(player)
        process.kill()
        process.join()
        process.close()
        with suppress(ValueError):
            self.ready.remove(player)


def slots_of(x: Experiment) -> int:
    """Blocks that a player may be ahead: two, and its share of the steps that pay for one update.

    With fewer, players would stand still while a long update is made.
    """
    assert x.replay is not None
    return AHEAD + int(x.replay.learn_period // (block_rows(x) * x.num_envs))


def slots(x: Experiment, room: SharedMemory, block: Block) -> list[Block]:
    """The blocks in a player's piece of memory."""
    return [carve(part, block) for part in room.bytes.chunk(slots_of(x))]


@contextmanager
def without_signals() -> Any:
    """Processes that are started meanwhile do not hear Ctrl-C and the like: the learner saves, then it ends them."""
    resource_tracker.ensure_running()  # which, when it starts, lets the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def how_it_ended(code: int) -> str:
    """An exit code for people."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"


def serve(x: Experiment, begin: Begin, pipe: Connection, room: SharedMemory, weights_room: SharedMemory) -> None:
    """What a player's process does: fills blocks as long as there is room for them, until its learner is gone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKS)  # whoever has started the process that this one comes from
    threading.Thread(target=follow_parent, daemon=True).start()
    torch.set_num_threads(1)
    os.nice(COURTESY)
    try:
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            fill_blocks(x, begin, pipe, room, weights_room)
    except Exception as error:
        with suppress(OSError):
            pipe.send(f"failed ({type(error).__name__}: {error})")
        raise


def fill_blocks(x: Experiment, begin: Begin, pipe: Connection, room: SharedMemory, weights_room: SharedMemory) -> None:
    """Plays one block after the other, with the newest weights, into the room that its learner has freed."""
    player = Player(x, begin.player, begin.life, begin.first_row)
    weights = Weights(weights_room, player.agent.acting)
    blocks = slots(x, room, like(x, example_row(x, player.agent)))
    free: deque[int] = deque()
    number = begin.block
    while True:
        while not free or pipe.poll():
            free.append(pipe.recv())
        version = weights.load()
        slot = free.popleft()
        ended = player.fill(blocks[slot], lambda: weights.agent_steps)
        pipe.send(Told(begin.player, number, slot, version, ended))
        number += 1


def follow_parent() -> None:
    """Ends this process when the one that started it ends, however it does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
