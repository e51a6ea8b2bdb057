"""Every game there is, by name."""

import difflib

from envs import atari, crafter, doom, minatar, probe
from envs.game import Game

GAMES: dict[str, Game] = {
    game.name: game for world in (atari, doom, crafter, minatar, probe) for game in world.GAMES
}  # fmt: skip


def game_of(name: str) -> Game:
    """A game by name, such as Breakout or doom/basic.

    Raises:
        ValueError: no such game; the message names the closest ones.
    """
    if name not in GAMES:
        names = {known.lower().replace("_", ""): known for known in GAMES}
        typed = name.lower().replace("_", "").replace("-", "")
        close = [names[found] for found in difflib.get_close_matches(typed, names, cutoff=0.5)]
        hint = f"did you mean {', '.join(close)}?" if close else "`highscore list games` shows them all"
        raise ValueError(f"there is no game called {name!r}; {hint}")
    return GAMES[name]
