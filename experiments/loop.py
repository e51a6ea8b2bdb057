"""The training loop, and evaluation."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from agents.agent import Agent
from agents.sequence import Sequence
from envs.games import Games
from envs.played import Played
from envs.timestep import NO_STEP, TimeStep

RECENT = 20  # episodes that the score of a training is the mean of


class Experience(Protocol):
    """What is learned from in one process: a Replay or a Rollout. It decides when, and from what.

    Attributes:
        waits: whether what the next step completes is learned from before anything is played on, by what was learned;
            else the games play on meanwhile.
    """

    @property
    def waits(self) -> bool: ...

    def add(self, step: TimeStep, action: Tensor, note: Any, state: Any, on_host: TimeStep) -> None:
        """Appends one step [N] of every game: what was seen, done and noted, and the memory before it."""

    def batches(self, room: Callable[[], int]) -> Iterator[tuple[Sequence, int]]:
        """What is to be learned from now, and how many updates it is for; at most `room` at once."""

    def update(self, ids: Tensor, priority: Tensor) -> None:
        """Takes the priorities [B] of sequences that `batches` gave."""


class Moment(NamedTuple):
    """Where training stands after one iteration, learning included: a checkpoint here is consistent."""

    agent_steps: int
    step: TimeStep  # [N] what the games show now
    state: Any  # [N, ...] the agent's memory before it acts on `step`; () if it has none
    metrics: dict[str, Tensor]  # of the last update in this iteration; empty if there was none
    batch: Sequence | None = None  # what that update learned from
    ended: Iterable[tuple["Episode", Played]] = ()  # episodes that `on_host` does not tell of: others played them
    on_host: TimeStep = NO_STEP  # `step` without its frames, on the host


def train(
    agent: Agent,
    games: Games,
    experience: Experience,
    epsilon: Callable[[int], float | Tensor],
    agent_steps: int,
    seed: int,
    begin: Moment | None = None,
) -> Iterator[Moment]:
    """Plays and learns up to `agent_steps`; yields after every iteration, so logging stays with the caller.

    Args:
        epsilon: agent steps to exploration rate, one for all games or each its own [N].
        begin: where an earlier training stood, if it is to go on; else the games start anew from `seed`.
    """
    if begin is None:
        step, state = games.reset(seed), agent.initial_state(games.num_envs)
    else:
        step, state = begin.step, begin.state
    while games.agent_steps < agent_steps:
        action, note, next_state = agent.act(step, state, epsilon(games.agent_steps))
        waits = experience.waits
        if not waits:
            games.send(action)  # the emulators run while we learn
        experience.add(step, action, note, state, games.on_host)
        games.start()  # if they wait for a GPU's choice
        metrics: dict[str, Tensor] = {}
        seq = None
        for seq, count in experience.batches(agent.room):
            games.start()
            priority, metrics = agent.learn(seq, count, games.agent_steps)
            experience.update(seq.ids, priority)
        if waits:
            action, note, next_state = agent.act(step, state, epsilon(games.agent_steps))
            experience.add(step, action, note, state, games.on_host)
            games.send(action)
        step, state = games.recv(), next_state
        yield Moment(games.agent_steps, step, state, metrics, seq, on_host=games.on_host)


class Episode(NamedTuple):
    """One finished episode."""

    game: int  # which of the games played it
    score: float  # raw, never clipped
    agent_steps: int
    number: int  # counted from 1, over all games


def evaluate(agent: Agent, games: Games, episodes: int, epsilon: float, seed: int) -> Iterator[Episode]:
    """Yields `episodes` episodes: the first few of each game, equally many (give or take one).

    Taking the first to finish instead would favour short episodes.
    """
    step, state = games.reset(seed), agent.initial_state(games.num_envs)
    share = [episodes // games.num_envs + (game < episodes % games.num_envs) for game in range(games.num_envs)]
    scores = Scores(games.num_envs)
    while any(share):
        action, _, state = agent.act(step, state, epsilon)
        step = games.step(action)
        for episode in scores.add(games.on_host):
            if share[episode.game]:
                share[episode.game] -= 1
                yield episode


class Scores:
    """Raw scores of the episodes that N games play, from their TimeSteps."""

    def __init__(self, num_envs: int):
        self.score, self.agent_steps = [0.0] * num_envs, [0] * num_envs
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.episodes = 0

    def add(self, step: TimeStep) -> list[Episode]:
        """Takes in one step [N], which must be on the host; returns the episodes that it ended."""
        ended = []
        rows = zip(step.reward.tolist(), step.first.tolist(), step.last.tolist(), strict=True)
        for game, (reward, first, last) in enumerate(rows):
            self.score[game] += reward
            self.agent_steps[game] += not first
            if last:
                ended.append(self.count(Episode(game, self.score[game], self.agent_steps[game], 0)))
                self.score[game], self.agent_steps[game] = 0.0, 0
        return ended

    def count(self, episode: Episode) -> Episode:
        """Takes in a whole episode; returns it with its number."""
        self.episodes += 1
        self.recent.append(episode.score)
        return episode._replace(number=self.episodes)

    def facts(self) -> dict[str, Any]:
        """All there is to it, as JSON holds it: `Scores.from_facts` makes it again."""
        return {**vars(self), "recent": list(self.recent)}

    @classmethod
    def from_facts(cls, facts: dict[str, Any], num_envs: int) -> "Scores":
        """The inverse of `facts`.

        Raises:
            ValueError: these are not the scores of N games.
        """
        scores = cls(num_envs)
        lists = {name: facts[name] for name in ("score", "agent_steps", "recent")}
        numbers = [x for values in lists.values() for x in values] + [facts["episodes"]]
        if any(type(x) not in (int, float) for x in numbers) or any(
            len(values) != num_envs for name, values in lists.items() if name != "recent"
        ):
            raise ValueError(f"these are not the scores of {num_envs} games")
        scores.score, scores.agent_steps = lists["score"], lists["agent_steps"]
        scores.recent.extend(lists["recent"])
        scores.episodes = facts["episodes"]
        return scores

    def give_up(self) -> None:
        """Forgets the episodes that are not finished."""
        self.score, self.agent_steps = [0.0] * len(self.score), [0] * len(self.score)

    @property
    def mean(self) -> float | None:
        """Mean raw score of the last `RECENT` episodes; None before the first."""
        return sum(self.recent) / len(self.recent) if self.recent else None
