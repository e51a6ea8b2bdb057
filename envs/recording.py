"""An episode as its seed and its actions; rendered again in full colour, every frame of it.

The emulator repeats itself exactly when it is given the same seed and the same actions, chance
included, so a few kilobytes are the whole episode.
"""

import json
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from envs.game import Frame
from envs.library import game_of
from envs.played import Played
from envs.protocols import Protocol

LONGEST = 1 << 23  # bytes of a recording, unpacked: what claims more is none of ours


@dataclass(frozen=True)
class Recording:
    """One whole episode."""

    game: str
    protocol: Protocol
    seed: int  # as given to the environment
    begin: int  # how many actions after it belong to earlier episodes
    actions: bytes  # one for each agent step since the seeding
    points: tuple[tuple[int, float], ...]  # (agent step of this episode, raw points), where any were earned
    score: float  # raw

    @classmethod
    def of(cls, game: str, protocol: Protocol, played: Played) -> "Recording":
        """The episode that `Games.played` tells of."""
        points = tuple((t, reward) for t, reward in enumerate(played.rewards) if reward)
        return cls(game, protocol, played.seed, played.begin, played.actions, points, sum(played.rewards))

    def check_score(self, score: float) -> None:
        """Compares with the raw score of the whole episode, played again.

        Raises:
            ValueError: it is another one.
        """
        check_equal(score, self.score, "the episode")

    def pack(self) -> bytes:
        """This episode as bytes: a line of JSON and its own actions, compressed; what came before is not in it."""
        header = {name: value for name, value in asdict(self).items() if name != "actions"}
        return zlib.compress(json.dumps(header).encode() + b"\n" + self.actions[self.begin :], 9)

    @classmethod
    def unpack(cls, content: bytes, before: Callable[[], bytes]) -> "Recording":
        """The inverse of `pack`.

        Args:
            before: the packed episode that the same environment played before this one; called again and again
                until that is the first after a seeding.

        Raises:
            ValueError: these bytes are no recording.
        """
        recording = cls._of_bytes(content)
        actions, begin = recording.actions, recording.begin
        while begin:
            earlier = cls._of_bytes(before())
            if (earlier.seed, earlier.begin + len(earlier.actions) + 1) != (recording.seed, begin):
                raise ValueError("what was played before it is not recorded")
            actions, begin = earlier.actions + b"\0" + actions, earlier.begin  # the action after an end plays nothing
        return replace(recording, actions=actions)

    @classmethod
    def _of_bytes(cls, content: bytes) -> "Recording":
        try:
            unpacked = zlib.decompressobj()
            whole = unpacked.decompress(content, LONGEST)
            if not unpacked.eof:
                raise ValueError("it is cut short, or too long to be ours")
            header, actions = whole.split(b"\n", 1)
            fields = json.loads(header)
            protocol = Protocol(**fields.pop("protocol"))
            points = tuple((int(t), float(reward)) for t, reward in fields.pop("points"))
            recording = cls(protocol=protocol, points=points, actions=actions, **fields)
            game_of(recording.game)
            if type(recording.seed) is not int or type(recording.begin) is not int:
                raise ValueError("seed and begin are whole numbers")
            recording = replace(recording, score=float(recording.score))
            if not 0 <= recording.seed < 1 << 31 or recording.begin < 0:
                raise ValueError("seed or begin are out of range")
        except (zlib.error, ArithmeticError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"this is not a recording ({error})") from None
        return recording


def check_equal(points: float, recorded: float, what: str) -> None:
    """Compares what is earned when an episode is played again with what was.

    Raises:
        ValueError: it is something else.
    """
    if not math.isclose(points, recorded, rel_tol=1e-5, abs_tol=1e-4):  # what was recorded is of 32-bit numbers
        raise ValueError(
            f"played again, {what} scored {points}, not {recorded}: emulator versions differ, or the game draws chance"
            " that its seed does not decide"
        )


def render(recording: Recording) -> Iterator[Frame]:
    """Plays a recording again; what came before its episode is played unseen.

    Yields:
        (frame, reward) per emulator frame: uint8 [height, width, 3], the game's own screen in colour, and the
        raw points earned on the way to it. The first is the screen after the reset.

    Raises:
        ValueError: what was played is another episode.
    """
    picture, points = game_of(recording.game).picture(recording.protocol), dict(recording.points)
    try:
        newest = picture.reset(recording.seed)
        for t, action in enumerate(recording.actions):
            if t == recording.begin:
                yield newest
            played = picture.act(action)
            newest = played[-1]
            if t >= recording.begin:
                check_equal(sum(reward for _, reward in played), points.get(t - recording.begin, 0.0), "an agent step")
                yield from played
    finally:
        picture.close()
