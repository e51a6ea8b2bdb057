"""Every game there is, by name; those that are registered with Gymnasium are made as they are asked for."""

import re

import gymnasium as gym

from envs import atari, board, crafter, doom, minatar, probe, registered
from envs.game import Game, unknown

GAMES: dict[str, Game] = {
    game.name: game for world in (atari, doom, crafter, minatar, board, probe) for game in world.GAMES
}  # fmt: skip


def game_of(name: str) -> Game:
    """A game by name, such as Breakout, doom/basic, or gym/CartPole-v1 (`envs/registered.py`).

    Raises:
        ValueError: no such game; the message names the closest ones.
    """
    bare = name.removeprefix(registered.PREFIX)
    plain = re.sub(r"^ALE/|(-ram)?(Deterministic|NoFrameskip)?-v\d+$", "", bare)
    if name not in GAMES and plain in atari.ROMS:  # Gymnasium's have sticky actions and a frame skip of their own
        raise ValueError(f"there is no game called {name!r}; did you mean {plain}? --protocol says how it is played")
    if name.startswith(registered.PREFIX):
        return registered.game(name)
    if name in gym.registry:
        raise ValueError(f"there is no game called {name!r}; did you mean {registered.PREFIX}{name}?")
    if name not in GAMES:
        raise ValueError(unknown("game", name, GAMES))
    return GAMES[name]
