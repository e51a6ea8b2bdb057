"""The loop calls the right things in the right order, and counts what it says."""

import torch

from agents.sequence import Sequence
from envs.timestep import TimeStep
from experiments.loop import RECENT, Episode, Scores, evaluate, train


def at(t, envs, last=()):
    flags = torch.zeros(envs, dtype=torch.bool)
    ends = torch.tensor([game in last for game in range(envs)])
    return TimeStep(torch.full((envs,), t), flags.long(), torch.ones(envs), flags, ends, ends)


class Tape:
    """Stands for agent, games and memory; writes down what is called."""

    def __init__(self, learn_at=(), wait=False):
        self.calls, self.t, self.agent_steps, self.num_envs = [], 0, 0, 2
        self.learn_at, self.wait = learn_at, wait

    @property
    def waits(self):
        return self.wait and self.t in self.learn_at

    def initial_state(self, n):
        return "state 0"

    def reset(self, seed):
        self.calls.append(f"reset {seed}")
        self.on_host = at(0, 2)
        return at(0, 2)

    def act(self, step, state, epsilon):
        self.calls.append(f"act on {step.obs[0]} with {state}, epsilon {epsilon}")
        return torch.full((2,), self.t), "note", f"state {self.t + 1}"

    def add(self, step, action, note, state, on_host):
        self.calls.append(f"add {step.obs[0]} as {on_host.obs[0]}, {action[0]}, {note}, {state}")

    def send(self, action):
        self.calls.append(f"send {action[0]}")
        self.agent_steps += 2

    def room(self):
        return 3

    def batches(self, room):
        if self.t in self.learn_at:
            yield Sequence(*[None] * 5, ids=f"ids {self.t}"), room()

    def learn(self, seq, count, agent_steps):
        self.calls.append(f"learn {seq.ids}, {count} batches, after {agent_steps} steps")
        return "priority", {"loss": self.t}

    def update(self, ids, priority):
        self.calls.append(f"update {ids}")

    def start(self):
        self.calls.append("start")

    def recv(self):
        self.t += 1
        self.calls.append("recv")
        self.on_host = at(-self.t, 2)
        return at(self.t, 2)


def test_order_of_calls():
    """Adding and learning stand between send and recv; the state that is stored is the one before the step."""
    tape = Tape(learn_at=(1,))
    moments = list(train(tape, tape, tape, lambda agent_steps: agent_steps / 10, 4, seed=9))
    assert tape.calls == [
        "reset 9",
        "act on 0 with state 0, epsilon 0.0", "send 0", "add 0 as 0, 0, note, state 0", "start", "recv",
        "act on 1 with state 1, epsilon 0.2", "send 1", "add 1 as -1, 1, note, state 1", "start",
        "start", "learn ids 1, 3 batches, after 4 steps", "update ids 1", "recv",
    ]  # fmt: skip
    assert [(moment.agent_steps, int(moment.step.obs[0]), moment.metrics) for moment in moments] == [
        (2, 1, {}), (4, 2, {"loss": 1}),
    ]  # fmt: skip
    assert [int(moment.on_host.obs[0]) for moment in moments] == [-1, -2]


def test_what_waits_is_learned_from_before_anything_is_played_on():
    """On-policy: the newest step is acted upon again by what was learned, which begins what is learned from next."""
    tape = Tape(learn_at=(1,), wait=True)
    moments = list(train(tape, tape, tape, lambda agent_steps: agent_steps / 10, 4, seed=9))
    assert tape.calls[1:] == [
        "act on 0 with state 0, epsilon 0.0", "send 0", "add 0 as 0, 0, note, state 0", "start", "recv",
        "act on 1 with state 1, epsilon 0.2", "add 1 as -1, 1, note, state 1", "start",
        "start", "learn ids 1, 3 batches, after 2 steps", "update ids 1",
        "act on 1 with state 1, epsilon 0.2", "add 1 as -1, 1, note, state 1", "send 1", "recv",
    ]  # fmt: skip
    assert [moment.agent_steps for moment in moments] == [2, 4] and moments[1].state == "state 2"


class Uneven:
    """Two games: the first ends every 2 steps, the second every 5; a point a step."""

    num_envs = 2

    def reset(self, seed):
        self.t = 0
        return at(0, 2)._replace(reward=torch.zeros(2), first=torch.ones(2, dtype=torch.bool))

    def step(self, action):
        self.t += 1
        self.on_host = at(self.t, 2, [game for game, length in enumerate((2, 5)) if self.t % length == 0])
        return self.on_host


class Idle:
    def initial_state(self, n):
        return ()

    def act(self, step, state, epsilon):
        return torch.zeros(2), (), ()


def test_evaluation_takes_equally_many_episodes_from_each_game():
    """The first to finish would be the short ones: a mean of 2, not of 3.5."""
    episodes = list(evaluate(Idle(), Uneven(), 6, epsilon=0.0, seed=0))
    assert sorted(episode.game for episode in episodes) == [0, 0, 0, 1, 1, 1]
    assert sum(episode.score for episode in episodes) / 6 == 3.5
    assert [e.agent_steps for e in episodes if e.game == 1] == [5, 5, 5]
    assert len(list(evaluate(Idle(), Uneven(), 3, epsilon=0.0, seed=0))) == 3


def test_the_score_of_a_training_is_the_mean_of_its_last_episodes():
    scores = Scores(1)
    for s in range(RECENT + 5):
        scores.count(Episode(0, float(s), 1, 0))
        latest = range(max(0, s - RECENT + 1), s + 1)
        assert scores.mean == sum(latest) / len(latest)
