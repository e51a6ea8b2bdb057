"""Lines that were wrong once, on purpose, and that no other test missed."""

import json
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from envs.crafter import Crafter
from envs.protocols import CRAFTER, GYMNASIUM, MACHADO
from envs.recording import Recording
from envs.registered import Registered
from experiments import episodes, scoring, suite, trainer
from experiments.build import build
from experiments.cli import run_command
from experiments.comparison import load
from experiments.curve import published
from experiments.dashboard.board import leaderboard
from experiments.dashboard.index import Index
from experiments.distributed import setup
from experiments.distributed.runner import Cluster, threads_on
from experiments.episodes import progress_episodes
from experiments.files import read_json, write_json
from experiments.loop import Scores
from experiments.matrix import cells, make_spec
from experiments.measure import cycle_of
from experiments.presets import preset
from experiments.progress import status
from experiments.records import evaluations
from experiments.results import as_json
from experiments.run import Run
from experiments.scheduler import Launch, Listed, Room, Scheduler
from experiments.scoring import score_agent
from experiments.search import Trials, best_trials
from experiments.stats import mean_interval
from experiments.sync import messages
from experiments.viewer.source import find_source
from tests.test_compare import make
from tests.test_players import small as with_players
from tests.test_resume import run_whole, small
from tests.test_scoring import CPU, agent_for
from tests.test_search import SPEC, evaluate, play


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_a_cell_says_of_its_runs(tmp_path):
    make(tmp_path, "dqn", "Pong", 1, [1.0, 2.0])
    (make(tmp_path, "dqn", "Pong", 2, [1.0, 2.0]) / "evaluations/000000500000.json").unlink()
    assert as_json(load([tmp_path]))["games"]["Pong"]["dqn"]["frames"] == 1_000_000  # the fewest
    for seed in range(3, 10):
        path = make(tmp_path, "dqn", "Pong", seed, [1.0, 2.0])
    notes = load([tmp_path]).notes
    assert any("as few as 9 seeds" in note for note in notes) and not any("MACHINES" in note for note in notes)
    make(tmp_path, "dqn", "Pong", 10, [1.0, 2.0])
    write_json(path / "config.json", read_json(path / "config.json") | {"machine": {"cores": 99}})
    notes = load([tmp_path]).notes
    assert not any("as few as" in note for note in notes) and any("MIXED MACHINES" in note for note in notes)


def test_of_unlike_evaluations_those_with_the_most_episodes_count(tmp_path):
    path, other = make(tmp_path, "dqn", "Pong", 1, [1.0]), make(tmp_path, "dqn", "Pong", 2, [5.0], epsilon=0.2)
    own = read_json(path / "evaluations/000000250000.json")
    more = own | {"episodes": 10, "mean": 3.0, "fingerprint": own["fingerprint"] | {"episodes": 10, "epsilon": 0.05}}
    write_json(path / "evaluations/000000250000-machado-last-s0-e0.05.json", more)
    assert [run.result["mean"] for run in load([path, other], mixed=True).runs] == [3.0, 5.0]


def test_a_run_that_went_on_after_it_was_saved_was_not_stopped_but_crashed(tmp_path):
    (tmp_path / "checkpoints/000000000100").mkdir(parents=True)
    write_json(tmp_path / "summary.json", {"agent_steps": 100, "frames": 400, "finished": False})
    for frames, told in ((400, "stopped"), (800, "crashed")):
        lines(tmp_path / "metrics.jsonl", {"frames": frames})
        assert status(tmp_path) == told


def test_a_search_draws_on_a_log_scale_anew_and_counts_what_it_is_told_to(tmp_path):
    space = {"replay.batch-size": {"low": 1, "high": 1_000, "log": True}}
    work = Trials(make_spec(SPEC | {"search": space}), tmp_path, 14, "mean", "random")
    play(tmp_path, work, lambda cell: 1.0)
    drawn = [trial.params["replay.batch-size"] for trial in work.study.trials]
    assert np.median(drawn) < 150 and all(isinstance(one, int) for one in drawn)

    (again := tmp_path / "again").mkdir()
    for count in (1, 2):  # goes on in another process
        work = Trials(make_spec(SPEC), again, count, "mean", "random")
        play(again, work, lambda cell: float(cell.name[1:5]))
    first, second = (trial.params["optimiser.learning-rate"] for trial in work.study.trials)
    assert first != second
    said = []
    best_trials(work, said.append)
    assert [line.split()[0] for line in said[1:3]] == ["t0001", "t0000"] and "other seeds" in said[3]


def test_a_trial_s_value_is_the_mean_over_its_runs_of_the_figure_that_was_named(tmp_path):
    spec = make_spec(SPEC | {"games": "Pong,Breakout", "seeds": "1"})
    work = Trials(spec, tmp_path, 1, "median", "random")
    runs = [work.next(), work.next()]
    for run, median in zip(runs, {"Pong": 14.6, "Breakout": 30.5}.values(), strict=True):
        evaluate(tmp_path, run, 4_000, 0.0)
        (file,) = (tmp_path / run.name / "evaluations").iterdir()
        write_json(file, read_json(file) | {"median": median if run.game == "Pong" else 30.5})
    # Of random play and people: Pong -20.7 and 14.6, Breakout 1.7 and 30.5.
    assert work.values(runs) == [pytest.approx(1.0)]
    (file,) = (tmp_path / runs[0].name / "evaluations").iterdir()
    write_json(file, read_json(file) | {"median": -20.7 if runs[0].game == "Pong" else 1.7})
    assert work.values(runs) == [pytest.approx(0.5, abs=0.01)]


def test_a_suite_resumes_a_run_whose_newest_checkpoint_was_being_replaced(tmp_path):
    (tmp_path / "dqn-Pong-s0/checkpoints/.replaced-000000000100").mkdir(parents=True)
    started, planned = [], cells(make_spec({"agents": "dqn", "games": "Pong", "seeds": "0"}))
    start = lambda words, *_: started.append(words) or SimpleNamespace(poll=lambda: 130)
    launch = Launch(tmp_path, (), lambda cell: [], 0, start)
    Scheduler(launch, 1, lambda cell: Room(4), Room(100), print).run(Listed(planned), lambda s, work: None)
    assert started[0][0] == "resume"


def test_cores_are_shared_among_the_trainings_of_a_suite(monkeypatch):
    monkeypatch.setattr("experiments.limits.cores", lambda: 8)
    assert [suite.share_of_threads(jobs) for jobs in (1, 2, 3, 9)] == [0, 4, 2, 1]


def test_cpus_of_a_cluster_are_shared_among_the_trainings_of_a_suite(monkeypatch):
    shared = [threads_on([4, 4], jobs, beside, away) for jobs, beside, away in [
        (1, 0, 0), (2, 0, 0), (3, 0, 0), (9, 0, 0), (2, 2, 0), (2, 0, 2), (2, 0, 3), (2, 3, 0),
    ]]  # fmt: skip
    assert shared == [4, 4, 2, 1, 2, 2, 1, 1]
    for jobs, beside, away in (3, 0, 3), (1, 4, 0):  # none plays, or none begins
        with pytest.raises(ValueError, match="lower --jobs or --players"):
            threads_on([4, 4], jobs, beside, away)
    cluster = Cluster(lambda *_: None, 10**11, [4, 4], "there:6379")
    monkeypatch.setattr("experiments.distributed.runner.cluster_at", lambda *_: cluster)
    planned = suite.plan(suite.Suite("atari5", agents=("dqn",), games=("Pong",), ray="there", jobs=2))
    launch = suite.launch_of(suite.Suite("atari5"), planned, planned.threads)
    assert launch.threads == 4 and launch.options[-2:] == ("--device", "cpu")  # not the GPU that a machine may have


def test_steps_are_counted_up_to_a_whole_one_and_a_cycle_is_a_rollout():
    assert replace(preset("dqn"), frames=10).agent_steps == 3
    ppo, dqn = preset("ppo"), preset("dqn")
    assert cycle_of(ppo) == 8 * ppo.algorithm.unroll and cycle_of(dqn) == 8


def test_a_replay_draws_by_the_experiment_s_seed():
    states = []
    for seed in (1, 1, 2):
        setup = build(replace(small("dqn", "probe/catch"), seed=seed), CPU)
        setup.games.close()
        states.append(setup.experience.rng.bit_generator.state)
    assert states[0] == states[1] != states[2]


def test_an_evaluation_is_not_counted_as_time_in_training_and_its_median_episode_is_filmed(tmp_path, monkeypatch):
    made, filmed, told = [], [], []
    monkeypatch.setattr(trainer, "typical", lambda scores: 2)
    monkeypatch.setattr(trainer, "keep_recordings", lambda run, name, recordings: made.append(recordings) or [])
    monkeypatch.setattr(trainer, "could_film", lambda shown, *_: filmed.append(shown) or False)
    x = small("dqn", "probe/catch")
    run_whole(replace(x, evaluation=replace(x.evaluation, episodes=3, video_seconds=1)), tmp_path)
    assert made and all(shown is recordings[2] for shown, recordings in zip(filmed, made, strict=True))
    one = SimpleNamespace(
        evaluation_due=False, interruption=SimpleNamespace(signal=0, may_abandon=False), _evaluate=lambda: None,
        frames=lambda: 7, clock=(0.0, 0), setup=SimpleNamespace(speeds=told.append),
    )  # fmt: skip
    trainer.Trainer.evaluate(one)
    assert one.clock[0] > 0 and one.clock[1] == 7 and told == [1.0]  # nor as time that a learner waits for players


def test_all_scores_are_in_the_interval_and_not_those_of_the_first_games(monkeypatch):
    monkeypatch.setattr(scoring, "EVALUATION_GAMES", 2)
    x = small("dqn", "probe/catch")

    def given(episodes):
        return (e._replace(score=s) for e, s in zip(episodes, (0.0, 1.0, 8.0), strict=True))

    result, _ = score_agent(agent_for(x), x, 3, epsilon=0.5, seed=0, device=CPU, watch=given)
    assert tuple(result["mean_interval"]) == tuple(mean_interval([0.0, 1.0, 8.0]))


def test_an_evaluation_of_the_best_weights_says_that_and_when_they_were(tmp_path):
    run = run_whole(small("dqn", "probe/catch"), tmp_path)
    best = run.path / "best/best.json"
    write_json(best, read_json(best) | {"frames": 123, "agent_steps": 123})
    assert run_command("evaluate", [str(run.path), "--episodes", "1", "--checkpoint", "best"]) == 0
    (kept,) = [one for one in evaluations(run.path) if "-best-" in one["name"]]
    assert (kept["checkpoint"], kept["frames"], kept["agent_steps"]) == ("best", 123, 123)


def test_progress_shows_episodes_of_the_training_s_own_protocol(watched_run, tmp_path):
    path = shutil.copytree(watched_run.path, tmp_path / "r")
    own = read_json(path / "evaluations/000000002000.json")
    write_json(path / "evaluations/000000003000.json", own | {"frames": 12_000, "protocol": "nature"})
    told = [label for label, _ in progress_episodes(Run.open(path), 3)]
    assert "8,000 frames" in told and "12,000 frames" not in told


def test_what_came_before_an_episode_is_of_the_same_seeding():
    first = Recording("Pong", MACHADO, 5, 0, b"\1\2", (), 0.0)
    second = Recording("Pong", MACHADO, 5, 3, b"\1\2\0\3", (), 0.0)
    assert Recording.unpack(second.pack(), first.pack).actions == b"\1\2\0\3"
    with pytest.raises(ValueError, match="not recorded"):
        Recording.unpack(second.pack(), replace(first, seed=6).pack)


def test_that_people_look_at_a_night_changes_nothing_of_the_game():
    env = Crafter(CRAFTER, render_mode="rgb_array_list")
    env.reset(seed=1)
    world = env.game._world
    world.daylight = 0.0
    before = [np.copy(x) for x in world.random.get_state()[1:3]]
    env.render()
    assert all(np.array_equal(a, b) for a, b in zip(before, world.random.get_state()[1:3], strict=True))
    env.game.render((180, 180))
    assert not np.array_equal(before[0], world.random.get_state()[1]) or world.random.get_state()[2] != before[1]


def test_an_own_game_ends_with_its_protocol_s_frames():
    env = Registered("CartPole-v1", replace(GYMNASIUM, max_frames=3))
    env.reset(seed=1)
    ends = [env.step(t % 2)[2:4] for t in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    env.close()


def test_the_leaderboard_shows_means_over_seeds():
    runs = [
        {"agent": "a", "game": "Pong", "seed": x, "normalised": x, "evaluation": x, "fingerprint": "f",
         "measured": "machado", "evaluated": 1, "whole": 1}
        for x in (1.0, 2.0, 6.0)
    ]  # fmt: skip
    (board,) = leaderboard(runs, [])
    assert board["rows"][0]["means"] == {"Pong": 3.0}


def test_the_dashboard_s_newest_score_and_speed_are_those_of_the_newest_rows(tmp_path):
    path = make(tmp_path, "dqn", "Pong", 1, [1.0])
    write_json(path / "summary.json", {"frames": 400, "training_score": 1.0})
    lines(path / "metrics.jsonl", {"frames": 800, "charts/episodic_return": 2.0})
    lines(path / "perf.jsonl", {"frames": 800, "charts/FPS": 400.0, "charts/SPS": 100.0})
    (facts,) = Index(tmp_path).runs(-1)["runs"]
    assert (facts["training"], facts["speed"]) == (2.0, 400.0)


def test_speeds_are_synced_beside_what_was_measured_at_the_same_frames(tmp_path):
    lines(
        tmp_path / "metrics.jsonl", {"frames": 4, "agent_steps": 1}, {"frames": 8, "agent_steps": 2, "eval/mean": 1.0}
    )
    lines(tmp_path / "perf.jsonl", {"frames": 4, "charts/FPS": 400.0}, {"frames": 8, "charts/FPS": 500.0})
    sent = [message["log"] for message in messages(tmp_path, False) if "log" in message]
    assert [row.get("charts/FPS") for row in sent] == [400.0, None]


def test_a_curve_compares_well_beside_every_reference_and_above_all_chance(tmp_path):
    names = ["QR-DQN CNN (Dopamine)", "Quantile (JAX) (Dopamine)"]
    (one, sd), (other, other_sd) = (published("Pong", name)[1] for name in names)
    score = one + 2.9 * sd
    assert abs(score - other) > 3 * other_sd
    run = Run.create(tmp_path, replace(preset("qrdqn"), game="Pong"), "published")
    run.append("episodes.jsonl", {"frames": 1_000_000, "score": score, "steps": 900})
    run.append("metrics.jsonl", {"frames": 1_000_000})
    write_json(run.path / "summary.json", {})
    run.close()
    assert run_command("curve", [str(run.path), str(tmp_path / "out"), "--reference", *names]) == 1
    run = Run.create(tmp_path, small("dqn", "probe/catch"), "chance")
    run.append("episodes.jsonl", {"frames": 600, "score": 1.0, "steps": 5})
    run.append("metrics.jsonl", {"frames": 600})
    for interval, status_of_it in (([-0.9, 0.95], 1), ([0.9, 1.0], 0)):
        write_json(run.path / "summary.json", {"evaluation": {"mean": 0.9, "mean_interval": interval, "scores": []}})
        assert run_command("curve", [str(run.path), str(tmp_path / "out")]) == status_of_it
    run.close()


def test_the_learning_rate_of_a_learner_with_players_is_annealed(monkeypatch):
    monkeypatch.setattr("experiments.distributed.setup.LocalPlayers", lambda *_: None)
    x = with_players("dqn")
    for anneal in (False, True):
        agent = setup.build(replace(x, optimiser=replace(x.optimiser, anneal=anneal)), CPU).agent
        assert (agent.learning_rate(x.agent_steps) < agent.learning_rate(0)) == anneal


def test_agents_that_began_with_weights_are_others_beside_older_versions_too(tmp_path):
    first, second = (make(tmp_path, "ppo", "Pong", seed, [1.0]) for seed in (1, 2))
    older = read_json(first / "config.json")
    del older["experiment"]["compile"]  # which it did not have yet
    write_json(first / "config.json", older)
    write_json(
        second / "config.json", read_json(second / "config.json") | {"weights": {"tensors_sha256": "0123456789"}}
    )
    assert len(load([first, second]).agents) == 2


def test_progress_goes_to_the_end_of_the_training(watched_run, monkeypatch):
    told = [
        {"frames": frames, "name": f"{frames}", "protocol": "machado", "recordings": [[0, 1]]}
        for frames in (10, 20, 30, 40)
    ]
    monkeypatch.setattr(episodes, "evaluations", lambda path: told)
    monkeypatch.setattr(episodes, "find_episode", lambda run, name: name)
    monkeypatch.setattr(episodes, "training_episodes", lambda path: [{"frames": 1, "episode": 1}])
    assert [name for _, name in progress_episodes(watched_run, 4)] == ["1", "10/1", "30/1", "40/1"]


def test_that_people_look_at_a_game_changes_none_of_its_chances():
    env = Registered("tests.own_game:Chancy-v0", GYMNASIUM, render_mode="rgb_array")
    env.reset(seed=1)
    env.screen = None  # as where the agent looks at the observation
    before = env.env.unwrapped.np_random.bit_generator.state
    env.render()
    assert env.env.unwrapped.np_random.bit_generator.state == before


def test_a_resumed_training_counts_its_speed_from_where_it_goes_on():
    one = SimpleNamespace(
        experiment=SimpleNamespace(num_envs=1), frames=lambda: 40, run=SimpleNamespace(cut=lambda positions: None),
        log=SimpleNamespace(mirror=SimpleNamespace(), begin_at=lambda frames: None), clock=(0.0, 0),
    )  # fmt: skip
    facts = {"scores": Scores(1).facts(), "metrics": {}, "evaluation_due": False, "positions": {}, "mirrored": 0}
    trainer.Trainer.take_up(one, {"resume": facts, "agent_steps": 10, "evaluation": None}, None)
    assert one.clock[0] > 0 and one.clock[1] == 40


def test_what_is_logged_of_exploration_and_speed_is_by_agent_steps():
    told: list[tuple] = []
    one = SimpleNamespace(
        clock=(time.monotonic() - 10, 0), frames=lambda: 400, agent_steps=100, scores=Scores(1), metrics={}, device=CPU,
        experiment=SimpleNamespace(explore=float), game=SimpleNamespace(frame_skip=4),
        setup=SimpleNamespace(agent=SimpleNamespace(updates=1), speeds=lambda seconds: {"waited": 4 / seconds}),
        log=SimpleNamespace(log=lambda *row: told.append(row)), or_say_full=lambda what: None, begin_to_write_rows=None,
    )  # fmt: skip
    trainer.Trainer.report(one)
    ((row, steps, perf),) = told
    assert (row["charts/epsilon"], steps) == (100, 100)
    assert perf["charts/FPS"] == pytest.approx(40, rel=0.1) and perf["charts/SPS"] == perf["charts/FPS"] / 4
    assert perf["waited"] == pytest.approx(0.4, rel=0.1)


def test_a_damaged_checkpoint_that_is_passed_over_is_named(watched_run, tmp_path, capsys):
    path = shutil.copytree(watched_run.path, tmp_path / "r")
    (path / "checkpoints/000000002000/tensors.safetensors").write_bytes(b"x")
    assert find_source(path).chosen == "1000"
    err = capsys.readouterr().err
    assert "000000002000 is damaged" in err and "trying the one before" in err
