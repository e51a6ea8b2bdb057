"""Searches: what is drawn, what is stopped as hopeless, what is kept apart, and that an interrupted search goes on."""

import json
from dataclasses import asdict, replace

import pytest

from experiments.cli import run_command
from experiments.files import RunError, write_json
from experiments.matrix import cells, make_spec, read_spec
from experiments.records import evaluations
from experiments.run import Run
from experiments.scheduler import Scheduler
from experiments.search import STARTUP, Trials, best_trials, check_games, check_search
from experiments.suite_checks import check_folder, experiment_of

SPEC = {
    "agents": "dqn", "games": "Pong", "seeds": "1-2",
    "search": {"optimiser.learning-rate": {"low": 1e-5, "high": 1e-2, "log": True}, "algorithm.n-steps": [1, 3]},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "s").mkdir()
    return tmp_path / "s"


def trials(folder, count, sampler="random"):
    return Trials(make_spec(SPEC), folder, count, "mean", sampler)


def evaluate(folder, cell, frames, score):
    path = folder / cell.name / "evaluations"
    path.mkdir(parents=True, exist_ok=True)
    result = {"mean": score, "agent_steps": frames // 4, "frames": frames}
    (path / f"{frames // 4:012d}.json").write_text(json.dumps(result))


def play(folder, work, score_of, ends=(4_000, 8_000)):
    """Runs every trial at once, evaluation by evaluation; returns the names of the runs that were stopped."""
    stopped = set()
    while cells := [cell for cell in (work.next(), work.next()) if cell]:
        for frames in ends:
            for cell in cells:
                if cell.name not in stopped:
                    where = frames + 4 * int(cell.name[1:5])  # no two trials are evaluated at the same frames
                    evaluate(folder, cell, where, score_of(cell) * frames / 8_000)
            stopped |= work.hopeless()
        for cell in cells:
            work.ended(cell, "stopped" if cell.name in stopped else "finished")
    return stopped


def test_a_record_that_a_full_disk_cut_short_does_not_end_a_search(folder):
    play(folder, trials(folder, 2), lambda cell: 1.0)
    journal = folder / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "worker_id"')
    for count in (3, 4):  # the first would write behind what is torn, and the second could not read it
        work = trials(folder, count)
        assert len(work.study.trials) == count - 1
        play(folder, work, lambda cell: 1.0)


def test_a_search_draws_reports_and_stops_what_is_hopeless(folder):
    work = trials(folder, STARTUP + 3)

    def score(cell):
        number = int(cell.name[1:5])
        return 100 + number if number < STARTUP else -10

    stopped = play(folder, work, score)
    states = [trial.state.name for trial in work.study.trials]
    assert states == ["COMPLETE"] * STARTUP + ["PRUNED"] * 3
    assert stopped == {f"t{n:04d}-dqn-Pong-s{s}" for n in range(STARTUP, STARTUP + 3) for s in (1, 2)}
    assert work.study.best_value == 100 + STARTUP - 1 and work.left == 0
    best = work.study.best_trial
    assert 1e-5 <= best.params["optimiser.learning-rate"] <= 1e-2 and best.params["algorithm.n-steps"] in (1, 3)
    assert best.intermediate_values == {1: 52.0, 2: 104.0}
    said = []
    best_trials(work, said.append)
    assert said[0] == "8 trials: 5 complete, 3 pruned" and "--optimiser.learning-rate" in said[1]


def test_evaluations_are_read_once(folder, monkeypatch):
    """Twice a second there would be thousands of them."""
    work, read = trials(folder, 1), []
    run, other = work.next(), work.next()
    monkeypatch.setattr("experiments.search.evaluations", lambda path: read.append(path.name) or evaluations(path))
    evaluate(folder, run, 4_000, 1.0)
    for _ in range(3):
        work.hopeless()
    assert read == [run.name, other.name]
    evaluate(folder, other, 4_000, 3.0)
    for _ in range(3):
        work.hopeless()
    assert len(read) == 4 and work.study.trials[0].intermediate_values == {1: 2.0}


def test_two_searches_are_not_ranked_together(folder):
    spec = make_spec(SPEC | {"settings": {"frames": "2M"}})
    check_search(folder, spec, "mean")
    write_json(folder / "suite.json", {"what": "x", "threads": 1, **asdict(spec), "objective": "mean"})
    check_search(folder, spec, "mean")
    for other, objective, words in (
        (make_spec(SPEC | {"settings": {"frames": "4M"}}), "mean", "settings"),
        (spec, "median", "objective"),
    ):  # fmt: skip
        with pytest.raises(RunError, match=f"begun with other {words}; choose another --name"):
            check_search(folder, other, objective)


def test_a_search_has_its_folder_to_itself(tmp_path, monkeypatch, capsys):
    (tmp_path / "s.toml").write_text(
        'agents = "pqn"\ngames = "probe/catch"\nseeds = 1\n[settings]\n"network.torso" = "mlp"\n'
        '[search]\n"optimiser.learning-rate" = [1e-3, 1e-4]\n'
    )
    line = [str(tmp_path / "s.toml"), "--search", "2", "--runs", str(tmp_path)]
    statuses = []

    def run(scheduler, work, show):
        work.next()
        if not statuses:  # the first one: meanwhile, in another terminal
            statuses.append(run_command("suite", line))

    monkeypatch.setattr(Scheduler, "run", run)
    statuses.append(run_command("suite", line))
    said = capsys.readouterr()
    assert statuses == [2, 0] and "1 trials: 1 running" in said.out
    assert f"another process searches in {tmp_path / 's'}" in said.err and said.err.count("\n") == 1
    assert run_command("suite", line) == 0  # and it is free again


def test_what_a_suite_gives_every_run_itself_is_not_drawn():
    with pytest.raises(ValueError, match=r"\[search\] seed: .* write seeds = "):
        make_spec(SPEC | {"search": {"seed": [1, 2]}})


def test_games_without_human_scores_are_searched_one_at_a_time():
    for games in (["minatar/asterix"], ["Pong"], ["Pong", "Breakout"]):
        check_games(games)
    with pytest.raises(ValueError, match=r"minatar/asterix, minatar/freeway have none: .* --games minatar/asterix"):
        check_games(["Pong", "minatar/asterix", "minatar/freeway"])


def test_the_settings_that_a_run_was_begun_with_are_named_and_its_citation_is_none(tmp_path):
    (cell,) = cells(make_spec({"agents": "dqn", "games": "Pong", "seeds": "0"}))
    Run.create(tmp_path, replace(experiment_of(cell), source="a better citation"), cell.name).close()
    check_folder(tmp_path, [cell])
    changed = cell._replace(settings={"algorithm.n-steps": 3, "target-period": 9, "num-envs": 7, "stack": 3})
    with pytest.raises(RunError, match=r"n_steps 1, now 3; .*and 1 more.; choose another --name"):
        check_folder(tmp_path, [changed])


def test_a_continued_search_draws_other_settings(folder):
    """Though of those before nothing has begun."""
    drawn = []
    for count in (2, 4):
        work = trials(folder, count)
        while cell := work.next():
            drawn.append(tuple(cell.settings.values()))
    assert len(drawn) == 4 + 8 and len(set(drawn)) == 4  # two seeds each, and the first two again


@pytest.mark.parametrize("space, said", [
    ('"optimizer.learning-rate" = [1e-3, 1e-4]', "optimizer.learning-rate"),
    ('"algorithm.n-steps" = [1, 0]', "--algorithm.n-steps must be at least 1, got 0"),
    ('"optimiser.learning-rate" = {low = -1.0, high = 1.0}', "--optimiser.learning-rate must be positive, got -1.0"),
])  # fmt: skip
def test_whatever_a_search_could_draw_is_tried_before_it_begins(tmp_path, capsys, space, said):
    head = 'agents = "dqn"\ngames = "probe/catch"\nseeds = 1\n[settings]\n"network.torso" = "mlp"\n[search]\n'
    (tmp_path / "s.toml").write_text(head + space + "\n")
    try:
        assert run_command("suite", [str(tmp_path / "s.toml"), "--search", "2", "--runs", str(tmp_path)]) == 2
    except SystemExit as ended:
        assert ended.code == 2
    assert said in "".join(capsys.readouterr()) and not (tmp_path / "s").exists()


def test_what_an_earlier_start_of_a_search_finished_counts(tmp_path, capsys):
    head = 'agents = "pqn"\ngames = "probe/catch"\nseeds = "1-2"\n[settings]\n"network.torso" = "mlp"\n[search]\n'
    (tmp_path / "s.toml").write_text(head + '"optimiser.learning-rate" = [1e-3, 1e-4]\n')
    (folder := tmp_path / "s").mkdir()
    work = Trials(make_spec(read_spec(str(tmp_path / "s.toml"))), folder, 2, "mean", "tpe")
    play(folder, work, lambda cell: 1.0)
    for path in folder.glob("t000*"):
        write_json(path / "summary.json", {"finished": path.name != "t0001-pqn-probe-catch-s2"})
    for count in ("2", "1"):  # nothing is left to do, though fewer are asked for
        assert run_command("suite", [str(tmp_path / "s.toml"), "--search", count, "--runs", str(tmp_path)]) == 0
        said = capsys.readouterr().out
        assert "2 trials: 2 complete" in said and "3 of 4 finished, 0 failed" in said
        assert f"Next: highscore compare {folder}" in said


def test_an_interrupted_search_goes_on_with_its_own_trials(folder):
    work = trials(folder, 3)
    first, second = work.next(), work.next()  # the two seeds of the first trial
    assert (first.seed, second.seed) == (1, 2) and first.settings == second.settings
    evaluate(folder, first, 4_000, 1.0)
    work.ended(first, "finished")
    again = trials(folder, 3)  # another process
    assert again.next() == first and again.next() == second
    for cell in (first, second):
        evaluate(folder, cell, 4_000, 2.0)
        again.ended(cell, "finished")
    assert again.study.trials[0].value == 2.0 and again.left == 2
    third = again.next()
    again.ended(third, "failed")
    assert [trial.state.name for trial in again.study.trials] == ["COMPLETE", "FAIL"]
    play(folder, again, lambda cell: 0.0)
    assert [trial.state.name for trial in again.study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
