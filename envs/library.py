"""Every game there is, by name."""

from envs import atari, crafter, doom, minatar, probe
from envs.game import Game, unknown

GAMES: dict[str, Game] = {
    game.name: game for world in (atari, doom, crafter, minatar, probe) for game in world.GAMES
}  # fmt: skip


def game_of(name: str) -> Game:
    """A game by name, such as Breakout or doom/basic.

    Raises:
        ValueError: no such game; the message names the closest ones.
    """
    if name not in GAMES:
        raise ValueError(unknown("game", name, GAMES))
    return GAMES[name]
