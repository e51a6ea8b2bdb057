"""What Ray is asked to do, done by one process in its place; tests/test_ray.py has the real one."""

import copy
import os
import random
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from agents.shards import Shards
from experiments.build import build_agent
from experiments.checks import NoRoom, check
from experiments.distributed import ray_setup
from experiments.distributed.blocks import example_row
from experiments.distributed.cluster import Lost, to_arrays
from experiments.distributed.ray_shards import CHUNK, RayShards, ShardActor
from experiments.distributed.setup import build
from experiments.files import read_rows
from experiments.resume import Resume, resume
from experiments.run import Run
from experiments.train import Train, run_training
from tests.test_players import play, small


class Died(Exception):
    """As Ray's RayError."""


class Failed(Died):
    """As Ray's RayTaskError."""


class Ref:
    """What an actor was asked for; it does it when somebody waits for it, in order."""

    def __init__(self, actor, method, args):
        self.actor, self.method, self.args = actor, method, args

    def value(self):
        while not hasattr(self, "result"):
            if self.actor.dead:
                raise Died
            first = self.actor.asked.pop(0)
            try:
                first.result = getattr(self.actor.object, first.method)(*(get(x) for x in first.args))
            except Died as error:
                first.result = error
        if isinstance(self.result, Died):
            raise self.result
        return self.result


class Actor:
    def __init__(self, thing):
        self.object, self.asked, self.dead = thing, [], False

    def __getattr__(self, method):
        def ask(*args):
            sent = copy.deepcopy(args) if method == "offer" else args  # as what is sent is
            self.asked.append(Ref(self, method, sent))
            return self.asked[-1]

        return SimpleNamespace(remote=ask)


def get(what):
    return [get(x) for x in what] if isinstance(what, list) else what.value() if isinstance(what, Ref) else what


class Pretended:
    """Two machines; actors are objects of this process, which work when they are waited for."""

    exceptions = SimpleNamespace(RayError=Died, RayTaskError=Failed)

    def __init__(self):
        self.made, self.initialised, self.names = [], True, "ab"
        self.chance = random.Random(1)

    def is_initialized(self):
        return self.initialised

    def nodes(self):
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 4}} for name in self.names]

    def remote(self, **_):
        def kind(cls):
            def make(*args):
                self.made.append(Actor(cls(*args)))
                return self.made[-1]

            made = SimpleNamespace(remote=make)
            made.options = lambda **_: made
            return made

        return kind

    def wait(self, refs, num_returns=1, timeout=None):
        for ref in refs:  # players are ahead of what the learner has heard
            with suppress(Died):
                ref.value()
        chosen = self.chance.choice(refs)  # Ray does not say which, if several are there
        return [chosen], [ref for ref in refs if ref is not chosen]

    def kill(self, actor):
        actor.dead = True

    def put(self, x):
        return x

    get = staticmethod(get)


@pytest.fixture
def ray(monkeypatch):
    pretended = Pretended()
    monkeypatch.setitem(sys.modules, "ray", pretended)
    monkeypatch.setattr(ray_setup, "connect", lambda cpus: pretended)
    monkeypatch.setattr("experiments.distributed.ray_shards.on_node", lambda node: node)
    monkeypatch.setattr("experiments.distributed.ray_players.on_node", lambda node: node)
    return pretended


def four_players(**changes):
    return small("prioritized", distributed="ray", players=4, frames=1_000, checkpoint_period=250, **changes)


def train(x, folder, stop=lambda: False):
    return run_training(Train(x, device="cpu", wandb="off", runs=folder, name="r"), Console(quiet=True), stop)[0]


def updates_paid_for(state):
    return (state["agent_steps"] - 200) // 8


def test_shards_on_two_machines_hold_what_shards_in_one_process_hold(ray):
    x = four_players()
    agent = build_agent(x, (x.stack, 1, 6, 5), 3, torch.device("cpu"))
    row, length = example_row(x, agent), agent.algorithm.length
    here = Shards(x.replay, x.num_envs, length, x.seed, 4, row)
    there = RayShards(ray, x, length, row, torch.device("cpu"))
    assert there.groups == [[0, 2], [1, 3]]
    _, blocks, _ = play(x, 20)
    for i, block in enumerate(blocks):
        here.extend(i % 4, tuple(block))
        shard = there.of(i % 4)
        if i < 4:
            ray.get(shard.begin.remote(i, 0))
        there.extend(i % 4, ray.get(shard.offer.remote(i % 4, 0, i // 4, to_arrays(tuple(block)))))
    assert there.chunk == CHUNK // 2
    assert there.steps_added == here.steps_added
    total = sum(shard.tree.total for shard in here.shards)
    assert sum(ray.get([actor.total.remote() for actor in there.actors])) == pytest.approx(total)
    facts, tensors = there.state()
    own_facts, own_tensors = here.state()
    own = {"rng": 0, "max_priority": 0}  # here the largest is known at once, there when the learner has set it
    assert [{**shard, **own} for shard in facts["shards"]] == [{**shard, **own} for shard in own_facts["shards"]]
    assert tensors.keys() == own_tensors.keys()
    assert all(torch.equal(tensors[name], x) for name, x in own_tensors.items())

    seq, _ = next(there.batches())
    assert seq.action.shape == (length, x.replay.batch_size) and len(there.ready[int(seq.ids[0]) % 2]) == CHUNK // 2 - 1
    assert len(set((seq.ids % 2).tolist())) == 1  # from one machine
    there.update(seq.ids, torch.full((len(seq.ids),), 1000.0))
    after = there.state()[1]
    assert sum(float(x.max() > 15) for x in after.values()) >= 1 > sum(float(x.max() > 15) for x in tensors.values())

    other = 1 - int(seq.ids[0]) % 2  # what is new on the other machine is as likely to be drawn as it would be here
    player = there.groups[other][0]
    unknown = blocks[player]._replace(priority=torch.full_like(blocks[player].priority, torch.nan))
    offered = there.of(player).offer.remote(player, 0, 5, to_arrays(tuple(unknown)))
    there.extend(player, ray.get(offered))
    assert there.state()[1][f"{player}.priorities"].max() == pytest.approx(1000**0.6, rel=1e-3)


def test_machines_draw_unlike_each_other_and_unlike_before_a_resume(ray):
    x = four_players()
    agent = build_agent(x, (x.stack, 1, 6, 5), 3, torch.device("cpu"))
    row, found = example_row(x, agent), []
    for seed in (1, 2):
        there = RayShards(ray, replace(x, seed=seed), agent.algorithm.length, row, torch.device("cpu"))
        streams = [actor.object.experience.rng for actor in there.actors]
        found += [rng.random() for rng in (there.rng, *streams)]
        facts, tensors = there.state()
        there.restore(facts | {"updates": 7}, tensors, row)
        found += [actor.object.experience.rng.random() for actor in there.actors]
    assert len(set(found)) == 10


def test_shards_that_their_machine_has_no_room_for_are_refused(ray, monkeypatch):
    monkeypatch.setattr("experiments.distributed.ray_shards.available_memory", lambda device: 1_000)
    x = four_players()
    agent = build_agent(x, (x.stack, 1, 6, 5), 3, torch.device("cpu"))
    with pytest.raises(NoRoom, match=r"the shards of 2 players take .* machine a of the cluster has 0.0 GB free"):
        RayShards(ray, x, agent.algorithm.length, example_row(x, agent), torch.device("cpu"))
    huge = replace(x, replay=replace(x.replay, capacity=10**12))
    check(huge, torch.device("cpu"))  # nothing of it is here
    with pytest.raises(ValueError, match=r"--replay\.storage cuda: shards are in the memory of the cluster"):
        build(replace(x, replay=replace(x.replay, storage="cuda")), torch.device("cpu"))


def test_a_player_that_was_given_up_adds_nothing_any_more(ray):
    x = four_players()
    agent = build_agent(x, (x.stack, 1, 6, 5), 3, torch.device("cpu"))
    row, length = example_row(x, agent), agent.algorithm.length
    shard = ShardActor(replace(x.replay, capacity=600), 2, length, [1, 1], [1, 3], 16, to_arrays(row))
    _, (one, two), _ = play(x, 2)
    assert shard.begin(1, life=0) == 0
    offered = shard.offer(1, 0, 0, to_arrays(tuple(one)))
    assert shard.total() == shard.experience.shards[0].rows_added == 0  # what nobody has counted is not there yet
    shard.accept(1, offered.number, 0.0)
    assert shard.experience.shards[0].steps_added == offered.steps
    shard.offer(1, 0, 1, to_arrays(tuple(two)))
    assert shard.begin(1, life=1) == 1  # the next one goes on after the last block that was counted
    shard.offer(1, 0, 1, to_arrays(tuple(two)))
    assert not shard.waiting
    shard.accept(1, shard.offer(1, 1, 1, to_arrays(tuple(two))).number, 0.0)
    assert shard.experience.shards[0].rows_added == 2 * 16


def test_players_that_die_are_replaced_and_nothing_is_learned_twice(ray, tmp_path):
    iterations = iter(range(10**6))

    def stop():
        if next(iterations) % 9 == 8:
            players = [actor for actor in ray.made if not actor.dead and type(actor.object) is not ShardActor]
            players[0].dead = True
        return False

    run = train(four_players(), tmp_path, stop)
    events = [row["event"] for row in read_rows(run.path / "events.jsonl")]
    assert sum("Another takes its place" in event for event in events) >= 3
    state = run.load_checkpoint()[1]
    assert state["finished"] and state["updates"] == updates_paid_for(state)
    shards = state["resume"]["memory"]["shards"]
    assert sum(shard["steps_added"] for shard in shards) == state["agent_steps"]
    rows = list(read_rows(run.path / "metrics.jsonl"))
    assert all(row.get("players/staleness", 0) <= 60 for row in rows)


def test_a_lost_shard_takes_it_back_to_the_checkpoint_and_to_the_end(ray, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.resume.PAUSE", 0.0)
    folder = tmp_path / "r" / "checkpoints"

    def stop():
        if folder.exists() and len(list(folder.glob("0*"))) == 2 and not any(actor.dead for actor in ray.made):
            next(actor for actor in ray.made if type(actor.object) is ShardActor).dead = True
            ray.names = "b"  # one machine is left, for all shards
        return False

    options = Train(four_players(), device="cpu", wandb="off", runs=tmp_path, name="r")
    run, _ = run_training(options, Console(), stop)
    said = capsys.readouterr().out
    assert "a replay shard is gone (Died); going back to" in said
    state = Run.open(run.path).load_checkpoint()[1]
    assert state["finished"] and state["updates"] == updates_paid_for(state)


def test_a_cluster_that_became_too_small_is_waited_for(ray, tmp_path, capsys, monkeypatch):
    """Where its machine does not come back, a suite may try again: there is no room now."""
    monkeypatch.setattr("experiments.resume.PAUSE", 0.0)
    monkeypatch.setattr("experiments.resume.TRIES", 2)
    folder, asked = tmp_path / "r" / "checkpoints", []

    def connect(cpus):
        asked.append(cpus)
        raise NoRoom("the Ray cluster has 2 CPUs, and 4 players take one each", "lower --players")

    def stop():
        if folder.exists() and len(list(folder.glob("0*"))) == 2:
            next(actor for actor in ray.made if type(actor.object) is ShardActor).dead = True
            monkeypatch.setattr(ray_setup, "connect", connect)
        return False

    options = Train(four_players(), device="cpu", wandb="off", runs=tmp_path, name="r")
    with pytest.raises(NoRoom, match="the Ray cluster has 2 CPUs"):
        run_training(options, Console(), stop)
    assert len(asked) == 2 and "take one each" in capsys.readouterr().out


def test_who_is_asked_to_stop_while_a_shard_is_lost_stops(ray, tmp_path, monkeypatch):
    """As when a cluster's manager signals everybody."""
    monkeypatch.setattr("experiments.resume.PAUSE", 0.0)
    folder = tmp_path / "r" / "checkpoints"

    def stop():
        if folder.exists() and len(list(folder.glob("0*"))) == 2:
            next(actor for actor in ray.made if type(actor.object) is ShardActor).dead = True
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    options = Train(four_players(), device="cpu", wandb="off", runs=tmp_path, name="r")
    with pytest.raises(Lost, match=r"gone \(Died\), and it was asked to stop; go on from .*: highscore resume"):
        run_training(options, Console(), stop)
    assert not Run.open(tmp_path / "r").load_checkpoint()[1]["finished"]


def test_a_stopped_training_goes_on_with_all_shards(ray, tmp_path):
    iterations = iter(range(10**6))
    run = train(four_players(), tmp_path, lambda: next(iterations) == 25 and os.kill(os.getpid(), signal.SIGTERM))
    before = run.load_checkpoint()[1]["resume"]
    resume(Resume(run.path, wandb="off"), Console(quiet=True))
    state = Run.open(run.path).load_checkpoint()[1]
    assert state["finished"] and state["updates"] == updates_paid_for(state)
    for old, new in zip(before["memory"]["shards"], state["resume"]["memory"]["shards"], strict=True):
        assert 0 < old["rows_added"] < new["rows_added"]


def test_rows_that_a_checkpoint_names_outlast_a_training_that_went_on_and_was_killed(
    ray, tmp_path, monkeypatch, capsys
):
    """Before it had saved anything: what the actors write then goes behind those rows."""
    monkeypatch.setattr("experiments.trainer.LOG_PERIOD", 50)
    iterations = iter(range(10**6))
    run = train(four_players(), tmp_path, lambda: next(iterations) == 25 and os.kill(os.getpid(), signal.SIGTERM))
    before = {file: file.read_bytes() for file in (run.path / "replay").rglob("*.rows")}
    again = iter(range(10**6))
    with pytest.raises(SystemExit):
        resume(Resume(run.path, wandb="off"), Console(quiet=True), lambda: next(again) == 6 and sys.exit("killed"))
    after = {file: file.read_bytes() for file in before}
    assert all(after[file].startswith(content) for file, content in before.items())
    assert sum(map(len, after.values())) > sum(map(len, before.values()))
    resume(Resume(run.path, wandb="off"), Console(quiet=True))
    assert Run.open(run.path).load_checkpoint()[1]["finished"] and "PASSED OVER" not in "".join(capsys.readouterr())


def test_a_stop_is_heard_while_nobody_plays(ray, tmp_path, monkeypatch):
    """As when others have taken the cluster's processors. Until then all players are replaced now and then."""
    monkeypatch.setattr("experiments.distributed.ray_players.SILENCE", 0.0)
    calls, wait = iter(range(10**6)), ray.wait

    def stop():
        if (call := next(calls)) == 40:
            ray.wait = lambda refs, num_returns=1, timeout=None: ([], refs)
        return call == 43 and os.kill(os.getpid(), signal.SIGTERM)

    run = train(four_players(), tmp_path, stop)
    state = run.load_checkpoint()[1]
    assert not state["finished"] and state["updates"] == updates_paid_for(state) > 0 and next(calls) == 44
    events = [row["event"] for row in read_rows(run.path / "events.jsonl")]
    assert sum("said nothing for 0 s" in event for event in events) == 4 * 4
    ray.wait = wait
    resume(Resume(run.path, wandb="off"), Console(quiet=True))
    assert Run.open(run.path).load_checkpoint()[1]["finished"]
