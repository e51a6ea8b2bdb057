"""Board games for two: so many stones in a row, tic-tac-toe and Connect Four.

An observation is uint8 [1, 2, H, W], 255 where a stone is: first those of who is to move, then the other's. A step is
a move; who wins by it earns 1, and who loses, or does what the rules forbid, -1. Under the protocol `self-play` the
agent moves for both, and each move's reward is the mover's; under the others an opponent answers within the step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from envs.game import Game
from envs.gym_games import GymPicture, cells, make_games
from envs.protocols import Protocol

MOST_KNOWN = 1 << 18  # positions that an opponent remembers


@dataclass(frozen=True)
class Row:
    """Rules: who has `length` stones in a row, a column or a diagonal wins (an m,n,k-game).

    Boards are uint8 [..., 2, H, W] as observations are, and an action a place, counted row by row; where stones fall
    it is a column.
    """

    height: int
    width: int
    length: int
    falls: bool = False
    depth: int = 4  # moves that the opponent of the protocol `minimax` looks ahead

    @property
    def num_actions(self) -> int:
        """Places, or columns."""
        return self.width if self.falls else self.height * self.width

    @cached_property
    def lines(self) -> np.ndarray:
        """The places of every line that wins, int64 [L, length]."""
        found = []
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            for y in range(self.height):
                for x in range(self.width):
                    ys, xs = (at + step * np.arange(self.length) for at, step in ((y, down), (x, right)))
                    if ys[-1] < self.height and 0 <= xs[-1] < self.width:
                        found.append(ys * self.width + xs)
        return np.array(found)

    def legal(self, board: Tensor) -> Tensor:
        """Which actions the rules allow: bool [..., A]."""
        free = ~board.bool().any(-3)  # [..., H, W]
        return free[..., 0, :] if self.falls else free.flatten(-2)

    def play(self, board: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boards [B, 2, H, W] after actions, int64 [B]; what comes of one that is not legal means nothing.

        Returns:
            The boards as the other player sees them, the mover's reward, float [B], and whether the game is over,
            bool [B].
        """
        place = action
        if self.falls:
            pile = board.bool().any(-3).sum(-2).gather(-1, action[:, None]).squeeze(-1)
            place = (self.height - 1 - pile).clamp(min=0) * self.width + action
        own, other = board.flatten(-2).unbind(-2)  # [B, H * W]
        own = own.scatter(-1, place[:, None], 255)
        lines = torch.from_numpy(self.lines).to(board.device)
        won = own.bool()[:, lines].all(-1).any(-1)
        full = (own | other).bool().all(-1)
        return torch.stack([other, own], -2).unflatten(-1, (self.height, self.width)), won.float(), won | full


def place_of(rules: Row, free: np.ndarray, action: int) -> int | None:
    """Where a stone comes to lie, counted row by row, among free places bool [H, W]; None: the rules forbid it."""
    if not rules.falls:
        return action if free.flat[action] else None
    pile = np.flatnonzero(free[:, action])
    return int(pile[-1]) * rules.width + action if len(pile) else None


class Board(gym.Env):
    """One of the games, under a protocol that names the opponent."""

    def __init__(self, rules: Row, protocol: Protocol, render_mode: str | None = None):
        self.rules, self.opponent, self.render_mode = rules, protocol.opponent, render_mode
        self.openings = protocol.noop_max
        self.observation_space = Box(0, 255, (1, 2, rules.height, rules.width), np.uint8)
        self.action_space = Discrete(rules.num_actions)
        self.minimax = Minimax(rules)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.stones = np.zeros((2, self.rules.height, self.rules.width), np.uint8)  # of who is to move, and the other's
        self.first_moves = True  # whether who is to move has the first stone, for the colours of `render`
        if self.opponent != "self" and self.np_random.random() < 0.5:
            self._move(self._answer())
        for _ in range(int(self.np_random.integers(max(self.openings, 1)))):
            before = self.stones, self.first_moves
            if self._move(self._answer())[1]:  # there must be something left to play
                self.stones, self.first_moves = before
                break
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward, over = self._move(int(action))
        if self.opponent != "self" and not over:
            theirs, over = self._move(self._answer())
            reward = -theirs
        return self._observe(), reward, over, False, {}

    def _move(self, action: int) -> tuple[float, bool]:
        """Lays a stone of who is to move, then it is the other's turn: (the mover's reward, whether it is over)."""
        own, other = self.stones
        place = place_of(self.rules, (own | other) == 0, action)
        if place is not None:
            own.flat[place] = 255
        self.stones = np.stack([other, own])
        self.first_moves = not self.first_moves
        if place is None:
            return -1.0, True
        won = bool(own.reshape(-1)[self.rules.lines].all(-1).any())
        return float(won), won or bool((own | other).all())

    def _answer(self) -> int:
        """The opponent's action, drawn from the best that it sees; another than minimax sees nothing."""
        own, other = (self.minimax.stones(plane) for plane in self.stones)
        ahead, worth = self.rules.depth - 1, {}
        for action, bit in self.minimax.moves(own | other):
            worth[action] = -self.minimax.value(other, own | bit, ahead) if self.opponent == "minimax" else 0
        most = max(worth.values())
        return int(self.np_random.choice([action for action in worth if worth[action] == most]))

    def _observe(self) -> np.ndarray:
        return self.stones[None].copy()

    def render(self) -> Any:
        shown = self.stones if self.first_moves else self.stones[::-1]
        picture = cells(shown, side=64)
        picture[::64] = picture[:, ::64] = 64  # lines between the places
        return [picture]


class Minimax:
    """What positions are worth, some moves ahead. Stones are bits of a number, with a bit between rows that is 0."""

    def __init__(self, rules: Row):
        row = rules.width + 1
        bits = [1 << (place // rules.width * row + place % rules.width) for place in range(rules.height * rules.width)]
        self.bits, self.length, self.steps = bits, rules.length, (1, row - 1, row, row + 1)
        # For each action the places that a stone may come to lie at, the lowest first.
        self.piles = [bits[x :: rules.width][::-1] for x in range(rules.width)] if rules.falls else [[b] for b in bits]
        self.known: dict[tuple[int, int, int], int] = {}

    def stones(self, plane: np.ndarray) -> int:
        """The stones of a plane [H, W] as bits."""
        return sum(self.bits[place] for place in np.flatnonzero(plane))

    def moves(self, taken: int) -> list[tuple[int, int]]:
        """(action, bit of its place) of all that may be done."""
        open_ = ((action, [bit for bit in pile if not taken & bit]) for action, pile in enumerate(self.piles))
        return [(action, free[0]) for action, free in open_ if free]

    def wins(self, stones: int) -> bool:
        """Whether there are enough of them in a row."""
        for step in self.steps:
            line = stones
            for i in range(1, self.length):
                line &= stones >> i * step
            if line:
                return True
        return False

    def value(self, own: int, other: int, depth: int) -> int:
        """What a position is worth to who is to move, `depth` moves ahead: 1, 0 or -1; 0 where no end is seen."""
        if self.wins(other):
            return -1
        found = self.known.get((own, other, depth))
        if found is None:
            found = 0
            if depth and (open_ := self.moves(own | other)):
                found = -1
                for _, bit in open_:
                    found = max(found, -self.value(other, own | bit, depth - 1))
                    if found == 1:
                        break
            if len(self.known) > MOST_KNOWN:
                self.known.clear()
            self.known[own, other, depth] = found
        return found


def game(name: str, rules: Row) -> Game:
    """A board as the suite knows games."""
    make_env: Callable[..., gym.Env] = partial(Board, rules)
    names = [str(i) for i in range(rules.num_actions)]
    return Game(
        f"board/{name}", "board", (2, rules.height, rules.width), frame_skip=1, frames_per_second=2,
        make=partial(make_games, make_env), actions=lambda: names, picture=partial(GymPicture, make_env), rules=rules,
    )  # fmt: skip


GAMES = [game("tic-tac-toe", Row(3, 3, 3, depth=9)), game("connect-four", Row(6, 7, 4, falls=True))]
