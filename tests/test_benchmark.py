"""The benchmark: what it times, and how it compares."""

import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from agents.agent import Agent
from experiments import benchmark, measure, speed
from experiments.arithmetic import arithmetic_of, product_speed
from experiments.build import LOOKAHEAD, build, make_games
from experiments.cli import run_command
from experiments.distributed import measure as players
from experiments.distributed.measure import Costs, predict
from experiments.loop import train
from experiments.measure import Stopwatch, Task, measured
from experiments.peers import PEERS, at_the_same_settings
from experiments.peers.common import ReplayBuffer
from experiments.peers.value_based import SegmentTree, project
from experiments.phases import Phases
from experiments.presets import PRESETS, preset
from tests.test_resume import small


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize("restarts", [0, 1, 9])
def test_a_stopwatch_counts_whole_cycles_after_the_warm_up(clock, restarts):
    begun = []
    watch = Stopwatch(begin=1_000, cycle=512, seconds=10.0, then=lambda: begun.append(clock[0]))
    steps = 0
    for row in range(1, 1 << 20):  # a step of 8 games takes 0.1 s, learning after every 64th step 2 s more
        steps += 8 - (200 <= row < 200 + restarts)  # episodes end in the middle of what is measured
        clock[0] += 0.1 + (2.0 if row % 64 == 0 else 0.0)
        if not watch(steps):
            break
    # From 1,280 on a cycle of 512 steps takes 6.4 + 2 s; two of them are the first that reach 10 s.
    assert begun == [pytest.approx(100 + 16.0 + 4.0)] and steps >= 1_280 + 2 * 512
    assert watch.rate == pytest.approx(512 / 8.4, rel=0.02)


def test_emulators_alone_are_played_until_episodes_end(monkeypatch):
    made, ends = [], []
    monkeypatch.setattr(speed, "make_games", lambda *args: made.append(make_games(*args)) or made[0])

    def timed(call, seconds):
        for _ in range(400):
            call()
            ends.append(int(made[0].on_host.last.sum()))
        return 0.2

    monkeypatch.setattr(speed, "timed", timed)
    assert speed.emulation(replace(preset("pqn"), game="Breakout"), 4) == pytest.approx(0.05)
    assert sum(ends) > 1


def test_a_preset_is_measured_on_a_game_of_its_world():
    of = benchmark.Benchmark().game_for
    assert (of("dqn"), of("demo"), of("ppo-doom"), of("ppo-crafter")) == ("Pong", "Pong", "doom/basic", "crafter")
    assert benchmark.Benchmark(game="Breakout").game_for("dqn") == "Breakout"


def test_ratios_are_of_medians_and_their_spread_is_that_of_the_rounds():
    def rounds(*rates):
        return [{"agent_steps_per_second": rate} for rate in rates]

    found = {"limits": rounds(200, 250, 240), "highscore": rounds(180, 120, 150), "sb3": rounds(60, 100, 90)}
    result = benchmark.summary(found)
    assert result["agent_steps_per_second"] == 150 and result["fraction_of_limit"] == 150 / 240
    assert result["sb3"] == {"agent_steps_per_second": 90, "ratio": 150 / 90, "ratio_of_rounds": [1.2, 3.0]}


def test_utilisation_is_of_the_arithmetic_if_that_was_counted():
    rounds = {"limits": [{"agent_steps_per_second": 200}], "highscore": [{"agent_steps_per_second": 150}]}
    assert "model_flops_utilisation" not in benchmark.summary(rounds)
    counted = [{"agent_steps_per_second": 200, "arithmetic": {"agent_steps_per_second": n}} for n in (250, 300, 900)]
    result = benchmark.summary(rounds | {"limits": counted, "sb3": [{"agent_steps_per_second": 100}]})
    assert result["model_flops_utilisation"] == 0.5
    assert result["sb3"]["ratio"] == 1.5 and result["sb3"]["ratio_at_most"] == 3.0


CONVOLUTIONS = [2 * 20**2 * 32 * 8**2 * 4, 2 * 9**2 * 64 * 4**2 * 32, 2 * 7**2 * 64 * 3**2 * 64]  # Mnih et al. 2015


@pytest.mark.parametrize("name", ["dqn", "c51", "ppo"])
def test_arithmetic_is_what_a_reader_of_the_paper_counts(monkeypatch, name):
    """One forward pass to act; to learn one of the online network, and backwards to weights and to inputs."""
    monkeypatch.setattr("experiments.arithmetic.product_speed", lambda dtype, device: {torch.float32: 1e9}[dtype])
    x = replace(preset(name), num_envs=4, game="Breakout")
    found = arithmetic_of(x, torch.device("cpu"))
    outputs = {"dqn": 4, "c51": 4 * 51, "ppo": 4 + 1}[name]  # of Breakout
    forward = sum(CONVOLUTIONS) + 2 * 3136 * 512 + 2 * 512 * outputs
    update = 3 * forward - CONVOLUTIONS[0]  # pixels have no gradient
    assert found.acting == forward
    if x.replay:  # 32 samples every four steps, of which the target network sees what came next
        assert found.learning == pytest.approx((update + forward) * 32 / 4)
    else:  # every sample in four epochs
        assert found.learning == pytest.approx(update * x.rollout.epochs, rel=1e-4)
    assert found.agent_steps_per_second == pytest.approx(1e9 / (found.acting + found.learning))


def test_products_are_counted_by_the_second(monkeypatch):
    monkeypatch.setattr("experiments.arithmetic.SIDE", {"cpu": 64})
    monkeypatch.setattr("experiments.arithmetic.timed", lambda call, seconds: call() and 0.5)
    for dtype in (torch.float32, torch.bfloat16):
        assert product_speed(dtype, torch.device("cpu")) == 4 * 64**3


def test_a_memory_is_not_counted():
    with pytest.raises(ValueError, match="gru"):
        x = preset("ppo-lstm")
        arithmetic_of(replace(x, network=replace(x.network, memory="gru")), torch.device("cpu"))


def test_phases_add_up_and_change_nothing():
    x = small("prioritized")
    shown = []
    for timed in (False, True):
        setup = build(x, torch.device("cpu"))
        phases = Phases.of(setup) if timed else None
        *_, end = train(setup.agent, setup.games, setup.experience, x.explore, 400, x.seed)
        shown.append((setup.agent.tensors(), end.step.obs))
        setup.games.close()
    assert phases is not None
    assert set(phases.seconds) == {"act", "environment", "replay", "learn"}
    assert 0.5 < sum(phases.shares().values()) <= 1.0
    assert phases.updates_per_second > 0
    assert all(torch.equal(x, shown[1][0][name]) for name, x in shown[0][0].items())
    assert torch.equal(shown[0][1], shown[1][1])


def test_the_command_measures_prints_and_writes(monkeypatch, tmp_path, capsys):
    """Real trainings, ours and a peer's, but short and in this process."""

    timed = speed.timed
    monkeypatch.setattr(speed, "timed", lambda call, seconds: timed(call, seconds / 10))
    monkeypatch.setattr(benchmark, "in_a_process_of_its_own", lambda module, task, what: measure.carry_out(task))
    monkeypatch.setattr(measure, "LEARN_START", 64)
    monkeypatch.setattr(measure, "WARM_UP_STEPS", 40)
    monkeypatch.setattr("experiments.arithmetic.product_speed", lambda dtype, device: 1e11)
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "new/speed.json"
    args = ["dqn", "--rounds", "1", "--seconds", "0.2", "--against", "cleanrl", "sb3", "--device", "cpu"]
    assert run_command("benchmark", [*args, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "of the limit" in printed and "MFU" in printed and "learn" in printed and "ours is faster by" in printed
    assert "with a replay, they play one game at a time" in " ".join(printed.split())
    found = json.loads(out.read_text())
    assert found["machine"]["cores"] and found["command"].startswith("highscore benchmark dqn")
    ours, sums = found["results"]["dqn"]["rounds"]["highscore"][0], found["results"]["dqn"]["summary"]
    assert 0.2 < ours["phases"]["learn"] < 1 and ours["bytes_per_transition"] < 7_200
    # One update per four agent steps, whatever the number of games.
    assert ours["updates_per_second"] == pytest.approx(ours["agent_steps_per_second"] / 4, rel=0.35)
    needed = found["results"]["dqn"]["rounds"]["limits"][0]["arithmetic"]
    assert needed["peak_learning"] == 1e11 and needed["learning"] > 20 * needed["acting"] > 20 * 18e6
    assert sums["model_flops_utilisation"] * needed["agent_steps_per_second"] == pytest.approx(
        ours["agent_steps_per_second"]
    )
    for peer in ("cleanrl", "sb3"):
        theirs = sums[peer]["agent_steps_per_second"]
        assert theirs > 0 and sums[peer]["ratio"] == pytest.approx(sums["agent_steps_per_second"] / theirs)


def test_rounds_go_forth_and_back_and_each_peer_comes_once(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(benchmark, "in_a_process_of_its_own", lambda module, task, what: seen.append(task) or {})
    for name, matched in (("dqn", True), ("pqn", False)):  # which Stable-Baselines3 has not: it is as in its preset
        benchmark.measure(name, benchmark.Benchmark(against=("sb3", "sb3"), rounds=2), Console(quiet=True))
        order = ["limits", "highscore", *["sb3"] * matched]
        assert [task.peer for task in seen] == order + order[::-1] and {task.matched for task in seen} == {matched}
        seen.clear()
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    assert run_command("benchmark", ["dqn", "--against", "sb3"]) == 2
    assert "Stable-Baselines3 is not installed: pip install" in capsys.readouterr().err


def test_ours_is_measured_as_it_is_asked_for_and_learns_as_much(monkeypatch):
    seen = []
    monkeypatch.setattr(measure, "end_to_end", lambda x, task: seen.append(x))
    monkeypatch.setattr(measure, "limits", lambda x, task: seen.append(x))
    for peer in ("highscore", "limits"):
        for name in ("dqn", "ppo"):
            measure.carry_out(Task(peer, name, "Pong", 0.1, "cpu", True, precision="bf16", num_envs=32, storage="ram"))
    assert seen[0].replay.storage == "ram" and seen[1].replay is None
    assert [(x.precision, x.num_envs) for x in seen] == [("bf16", 32), ("bf16", 8)] * 2
    assert seen[0].replay.learn_period == preset("dqn").replay.learn_period


def test_every_number_of_updates_is_met_before_time_is_taken(monkeypatch):
    """Else those that come where the target network changes would be compiled while time is taken."""
    met, timed = [], []
    learn, begin = Agent.learn, Phases.begin

    def noted(self, seq, count=1, *more):
        met.append((count, len(seq.weight)))
        return learn(self, seq, count, *more)

    monkeypatch.setattr(Agent, "learn", noted)
    monkeypatch.setattr(Phases, "begin", lambda self: timed.append(len(met)) or begin(self))
    monkeypatch.setattr("experiments.build.make_fast", lambda agent, x, device: None)
    x = replace(small("dqn", "probe/catch"), compile=True, target_period=1 << 20)
    found = measure.end_to_end(measured(x, x.game), Task("highscore", "dqn", x.game, 0.1, "cpu", True))
    assert found["updates_per_second"] > 0 and set(met[timed[-1] :]) == {(1, 4)}
    assert {(count, 4 * count) for count in range(1, LOOKAHEAD + 1)} == set(met[: timed[-1]])


def test_an_unknown_preset_and_a_failed_measurement_are_one_line(capsys, monkeypatch):
    assert run_command("benchmark", ["dqnn"]) == 2
    assert "dqnn" in capsys.readouterr().err
    for words in (["--num-envs", "8"], ["--rounds", "1"], ["--against", "sb3"]):
        assert run_command("benchmark", ["apex-dqn", "--distributed", "local", *words]) == 2
        assert f"{words[0]}: with --distributed" in capsys.readouterr().err
    assert run_command("benchmark", ["dqn", "--rounds", "0"]) == 2
    assert "--rounds" in capsys.readouterr().err
    assert run_command("benchmark", ["dqn", "--players", "3"]) == 2
    assert "--distributed local" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("experiments.build.device_of", lambda name: torch.device("cuda"))
        assert run_command("benchmark", ["dqn", "--against", "cleanrl"]) == 2
        assert "add --device cpu" in capsys.readouterr().err
    monkeypatch.setattr("sys.executable", "false")
    assert run_command("benchmark", ["dqn", "--rounds", "1"]) == 2
    assert "measuring dqn of limits failed" in capsys.readouterr().err
    assert run_command("benchmark", ["apex-dqn", "--distributed", "local"]) == 2
    assert "measuring players of apex-dqn failed" in capsys.readouterr().err


def test_peers_are_compared_at_equal_work():
    """Updates per agent step, batch, epochs: what the reference agents have written into them."""
    for names in PEERS.values():
        assert set(names) <= set(PRESETS)
    for name in ("dqn", "c51", "rainbow", "qrdqn"):
        replay = at_the_same_settings(preset(name)).replay
        assert (replay.batch_size, replay.learn_period) == (32, 4)
    for name in ("ppo", "pqn", "ppo-lstm"):
        x = at_the_same_settings(preset(name))
        assert (x.num_envs, x.algorithm.unroll, x.rollout.epochs, x.rollout.minibatches) == (8, 128, 4, 4)


def test_the_reference_agents_are_right_where_that_is_easily_seen():
    support = torch.linspace(-10, 10, 51)
    pmf = torch.rand(4, 51).softmax(-1)
    moved = project(pmf, support, torch.tensor([[0.0], [1.0], [-30.0], [0.4]]), torch.tensor([[1.0], [0], [1], [0]]))
    assert torch.allclose(moved.sum(-1), torch.ones(4)) and torch.allclose(moved[0], pmf[0], atol=1e-6)
    assert moved[2, 0] == pytest.approx(1.0) and moved[3, 26] == pytest.approx(1.0, abs=1e-5)
    assert (moved[1] * support).sum() == pytest.approx(1.0, abs=1e-5)
    tree = SegmentTree(5)
    for i, value in enumerate((1.0, 2.0, 0.0, 4.0, 3.0)):
        tree.set(i, value)
    assert [tree.find(mass) for mass in (0.5, 1.5, 3.5, 6.9, 9.9)] == [0, 1, 3, 3, 4]
    replay = ReplayBuffer(3, 2)
    for i in range(4):
        replay.add(i, i + 1, i, i, 0)
    assert replay.take([0, 1])[2].flatten().tolist() == [3, 1]


def test_the_model_of_players_is_the_slowest_of_its_parts():
    costs = Costs(play=0.002, take=0.0001, update=0.08, period=16)  # learning takes 0.0051 s a step
    assert predict(costs, 1, 1, 8) == pytest.approx(1 / 0.0051)  # the learner
    assert predict(costs, 4, 4, 64) == pytest.approx(1 / 0.00135)  # four of them
    assert predict(costs._replace(update=0), 3, 1, 8) == pytest.approx(3 / 0.002)  # the players
    assert predict(costs, 4, 1, 2) == pytest.approx(min(1 / 0.0051, 2 / 0.0071))  # what they share
    assert predict(costs._replace(play=0.02), 4, 1, 2) == pytest.approx(2 / 0.0251)


def test_players_are_measured_part_by_part(monkeypatch, tmp_path, capsys):
    """Real players of a real game, in this process and for a moment."""
    monkeypatch.setattr(players, "in_a_process_of_its_own", lambda module, task, what: players.carry_out(task))
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setattr(players, "preset", lambda name: replace(preset(name), num_envs=4, players=2))
    monkeypatch.setattr(players, "measured", lambda x, game: short_of_work(measured(x, game)))
    out = tmp_path / "players.json"
    args = ["prioritized", "--distributed", "local", "--players", "2", "--seconds", "0.5", "--out", str(out)]
    assert run_command("benchmark", args) == 0
    assert "16 steps, 0.11 MB" in capsys.readouterr().out
    (row,) = json.loads(out.read_text())["results"]["prioritized"]
    alone, whole = row["alone"], row["whole"]
    assert alone["updates_per_second"] == 0 and 1 >= alone["learner_idle"] > whole["learner_idle"] >= 0
    assert whole["updates_per_second"] == pytest.approx(whole["agent_steps_per_second"] / 4, rel=0.5)
    assert whole["block_bytes"] == pytest.approx(8 * 2 * (84 * 84 + 30), rel=0.02)
    assert 1e-5 < whole["update_seconds"] < 2 and row["predicted"] < row["predicted_alone"]


def short_of_work(x):
    return replace(x, network=replace(x.network, hidden=8), replay=replace(x.replay, learn_start=100))


def test_presets_are_timed(monkeypatch):
    """Every kind of experience: seconds per iteration, and a count of parameters that is the network's."""
    timed = speed.timed
    monkeypatch.setattr(speed, "timed", lambda call, seconds: timed(call, seconds / 10))
    for name in ("qrdqn", "pqn-lstm", "r2d2-small"):
        x = replace(PRESETS[name], num_envs=4)
        if x.replay:
            x = replace(x, replay=replace(x.replay, batch_size=2))
        found, parameters = speed.speed_of(x, torch.device("cpu"), emulate=1e-3)
        assert found.act > 0 and found.learn > 0 and found.emulate == 4e-3
        rest = max(found.emulate, found.learn) if x.replay else found.emulate + found.learn
        assert found.frames_per_second == 16 / (found.act + rest)
        assert parameters > 1_000_000
