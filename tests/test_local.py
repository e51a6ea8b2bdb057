"""Players in processes of their own: whatever is slow, dies or is killed, what is learned stays exact."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil
import pytest
import torch
from rich.console import Console

from experiments import trainer
from experiments.distributed import local
from experiments.distributed.blocks import block_rows
from experiments.distributed.local import LocalPlayers
from experiments.distributed.setup import build
from experiments.files import RunError, read_rows
from experiments.resume import Resume, resume
from experiments.run import Run
from experiments.train import Train, run_training
from tests.test_players import small


class Watched:
    """Two players that were started once for several tests, and all that they have told."""

    def __init__(self, x):
        self.x, self.setup, self.said = x, build(x, torch.device("cpu")), []
        self.setup.games.say = self.said.append
        self.told = []
        recv = self.setup.games.recv

        def and_note():
            block, told = recv()
            self.told.append(told)
            return block, told

        self.setup.games.recv = and_note

    def learn(self, agent_steps):
        """Goes on for so many agent steps; yields after every block."""
        x, frames = self.x, self.setup.experience.steps_added + agent_steps
        for moment in self.setup.moments(replace(x, frames=frames), None):
            assert self.setup.experience.updates == self.setup.agent.updates
            assert self.setup.agent.updates == x.replay.planned_updates(moment.agent_steps)  # at every moment
            yield moment

    def of(self, player):
        return [told.number for told in self.told if told.player == player]


@pytest.fixture(scope="module")
def watched():
    torch.manual_seed(0)
    found = Watched(small(network=replace(small().network, hidden=8), frames=1 << 30))
    try:
        yield found
    finally:
        found.setup.games.close()


def check_what_arrived(watched):
    """Every block once and in order; every row of it in its shard; all steps counted."""
    setup, x = watched.setup, watched.x
    for player in range(2):
        assert watched.of(player) == list(range(setup.games.blocks[player]))
        assert setup.experience.shards[player].rows_added == setup.games.blocks[player] * block_rows(x)


def test_the_ratio_is_exact_with_a_slow_player(watched):
    """One player stands still most of the time; the other goes on, and nobody waits for the slow one."""
    for _ in watched.learn(400):
        pass
    slow = watched.setup.games.processes[0]
    before, stop = [len(watched.of(0)), len(watched.of(1))], threading.Event()

    def slow_down():
        while not stop.is_set():
            os.kill(slow.pid, signal.SIGSTOP)
            stop.wait(0.3)
            os.kill(slow.pid, signal.SIGCONT)
            stop.wait(0.005)

    thread = threading.Thread(target=slow_down)
    thread.start()
    try:
        for _ in watched.learn(2_000):
            pass
    finally:
        stop.set()
        thread.join()
    theirs, others = len(watched.of(0)) - before[0], len(watched.of(1)) - before[1]
    assert others > 2 * theirs
    check_what_arrived(watched)


def test_players_wait_for_a_slow_learner(watched, monkeypatch):
    """And then know weights that are at most as old as the few blocks that wait."""
    agent, learn = watched.setup.agent, watched.setup.agent.learn
    monkeypatch.setattr(agent, "learn", lambda *batch: (time.sleep(0.02), learn(*batch))[1])
    staleness = [float(moment.metrics["players/staleness"]) for moment in watched.learn(1_000) if moment.metrics]
    per_block = block_rows(watched.x) * 2 / watched.x.replay.learn_period
    # Of every player AHEAD blocks wait or are played, and weights go out once a round.
    assert median(staleness) <= (2 * local.AHEAD + 2) * per_block  # a starved player may be later
    check_what_arrived(watched)
    players = [psutil.Process(process.pid) for process in watched.setup.games.processes.values()]
    spent, deadline = [0.0], time.monotonic() + 60
    while (now := [player.cpu_times().user for player in players]) != spent:
        assert time.monotonic() < deadline, "they play on while nobody learns"
        spent = now
        time.sleep(1.0)


def shared_blocks():
    """The shared memory that this process has mapped, where that can be seen."""
    maps = Path("/proc/self/maps")
    return [line for line in maps.read_text().splitlines() if "memfd:highscore" in line] if maps.exists() else []


def test_players_are_killed_again_and_again(watched):
    """No block is lost, doubled or half there; the log says who died."""
    rng, killed, held = random.Random(0), [], len(shared_blocks())
    games = watched.setup.games
    while len(killed) < 6:
        player = rng.randrange(2)
        had, more = games.blocks[player], rng.randrange(1, 4)
        for _ in watched.learn(1 << 20):
            if games.blocks[player] >= had + more and games.lives[player] == 1 + killed.count(player):
                break
        os.kill(games.processes[player].pid, signal.SIGKILL)
        killed.append(player)
    for _ in watched.learn(1 << 20):
        if sum(games.lives) == 8:
            break
    for _ in watched.learn(1_000):
        pass
    check_what_arrived(watched)
    assert sum("was killed by signal 9" in text for text in watched.said) == 6
    assert games.lives == [1 + killed.count(0), 1 + killed.count(1)] and games.deaths == [0, 0]  # none twice in a row
    ends = [int(shard.rows[0].first[:, 0].sum()) for shard in watched.setup.experience.shards]
    assert min(ends) > 0 and len(shared_blocks()) == held


def test_a_player_that_stands_still_is_replaced_though_another_plays(watched, monkeypatch):
    monkeypatch.setattr(local, "SILENCE", 3.0)
    monkeypatch.setattr(local, "GRACE", 0.5)
    games, lives = watched.setup.games, watched.setup.games.lives[0]
    os.kill(games.processes[0].pid, signal.SIGSTOP)
    for _ in watched.learn(1 << 20):
        if games.lives[0] > lives and not games.deaths[0]:
            break
    assert any(text.startswith("player 0 said nothing for 3 s, after block") for text in watched.said)
    check_what_arrived(watched)


def test_a_player_that_cannot_play_ends_the_training(monkeypatch, capfd):
    x = small()
    broken = replace(x, explore=replace(x.explore, num_envs=3))  # which `check` refuses: one rate too few
    monkeypatch.setattr("experiments.build.check", lambda *_: None)
    monkeypatch.setattr("experiments.distributed.roster.DEATHS", 1)
    setup = build(replace(broken, players=1), torch.device("cpu"))
    said = []
    setup.games.say = said.append
    try:
        with pytest.raises(RunError, match=r"player 0 failed .* 2 times in a row"):
            for _ in setup.moments(x, None):
                pass  # there is nothing yet
    finally:
        setup.games.close()
    assert any("failed (RuntimeError" in text for text in said)


@pytest.mark.parametrize("deaths, said", [(0, "1 times in a row; nothing more"), (5, "player 0 cannot be started")])
def test_what_was_learned_is_saved_when_nobody_can_play_any_more(monkeypatch, tmp_path, deaths, said):
    """Players that can be started no more; what the others had given is kept, and goes on."""
    monkeypatch.setattr("experiments.distributed.roster.DEATHS", deaths)
    killed = []

    class Killing(LocalPlayers):
        def _start(self, player):
            if killed:
                raise BlockingIOError("no more processes")
            super()._start(player)

        def recv(self):
            if sum(self.blocks) == 12 and not killed:
                killed.append(self.processes[0].pid)
                os.kill(killed[0], signal.SIGKILL)
            return super().recv()

    monkeypatch.setattr("experiments.distributed.setup.LocalPlayers", Killing)
    x = small("prioritized", frames=2_000)
    with pytest.raises(RunError, match=rf"{said} .* Saved; once it can: highscore resume"):
        run_training(Train(x, device="cpu", wandb="off", runs=tmp_path, name="r"), Console())
    saved = Run.open(tmp_path / "r").load_checkpoint()[1]
    assert 12 * 8 <= saved["agent_steps"] < 2_000 and killed
    monkeypatch.setattr("experiments.distributed.setup.LocalPlayers", LocalPlayers)
    resume(Resume(tmp_path / "r", wandb="off"), Console())
    assert Run.open(tmp_path / "r").load_checkpoint()[1]["finished"]


ATARI = (
    "--game Breakout --num-envs 4 --frames 6k --seed 3 --network.hidden 16 --target-period 20 --explore.steps 2k"
    " --explore.begin 500 --replay.capacity 3k --replay.batch-size 8 --replay.learn-start 500 --replay.learn-period 16"
    " --checkpoint-period 2k --evaluation.episodes 1 --evaluation.epsilon 0.5 --evaluation.video-seconds 0"
    " --distributed local --players 2 --device cpu --wandb off"
).split()


def descendants(pid):
    return psutil.Process(pid).children(recursive=True)


@pytest.fixture
def nobody_more():
    """Afterwards this process has no descendants that it did not have, but for what starts players and cleans up."""
    before = set(descendants(os.getpid()))
    yield
    left = set(descendants(os.getpid())) - before
    assert all("multiprocessing" in " ".join(p.cmdline()) for p in left), left


def test_a_killed_learner_leaves_nobody_behind_and_is_resumed(tmp_path, nobody_more, monkeypatch):
    """On a real game. What was learned and remembered is there again; the games begin new episodes."""
    command = [sys.executable, "-m", "experiments.cli", "train", "prioritized", *ATARI, "--runs", str(tmp_path)]
    learner = subprocess.Popen([*command, "--name", "r"], stdout=subprocess.DEVNULL)
    path = tmp_path / "r"
    deadline = time.monotonic() + 600
    while not list(path.glob("checkpoints/0*")) and time.monotonic() < deadline:
        assert learner.poll() is None
        time.sleep(0.05)
    players = descendants(learner.pid)
    assert len(players) >= 2
    learner.kill()
    learner.wait()
    _, alive = psutil.wait_procs(players, timeout=60)
    assert not alive
    checkpoint = json.loads((sorted(path.glob("checkpoints/0*"))[-1] / "checkpoint.json").read_text())
    episodes = len(list(read_rows(path / "episodes.jsonl")))
    monkeypatch.setattr(trainer, "LOG_PERIOD", 400)
    run, stopped = resume(Resume(path, device="cpu", wandb="off"), Console(quiet=True))
    assert not stopped and json.loads((path / "summary.json").read_text())["finished"]
    events = [row["event"] for row in read_rows(path / "events.jsonl")]
    assert any(f"going on at {checkpoint['frames']:_} of" in event for event in events)
    assert any("2 processes play 2 games each" in event for event in events)
    state = json.loads((sorted(path.glob("checkpoints/0*"))[-1] / "checkpoint.json").read_text())
    assert state["updates"] == run.experiment.replay.planned_updates(state["agent_steps"])
    facts = state["resume"]
    assert facts["games"]["lives"] == [2, 2] and sum(s["steps_added"] for s in facts["memory"]["shards"]) >= 1_500
    rows = list(read_rows(path / "episodes.jsonl"))
    assert [row["episode"] for row in rows] == list(range(1, len(rows) + 1)) and len(rows) >= episodes - 4
    assert {row["game"] for row in rows} <= {0, 1, 2, 3}
    assert all(0 <= row["perf/learner_idle"] <= 1 for row in read_rows(path / "perf.jsonl"))
    assert any(row.get("players/staleness", 0) > 0 for row in read_rows(path / "metrics.jsonl"))


def test_ctrl_c_saves_and_ends_everybody(tmp_path, nobody_more):
    x, countdown = small(frames=1 << 20), iter(range(1 << 20))

    def stop():
        if next(countdown) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    run, stopped = run_training(Train(x, device="cpu", wandb="off", runs=tmp_path, name="r"), Console(quiet=True), stop)
    assert stopped == signal.SIGINT and len(run.checkpoints()) == 1
