"""What a reader must know of runs that are compared: repeated evaluations, unlike code and worlds, what is left out."""

import json

import pytest

from envs.protocols import MINATAR, VIZDOOM
from experiments.checkpoint import write_weights
from experiments.cli import run_command
from experiments.comparison import load
from experiments.figures import draw_all
from experiments.files import RunError, write_json
from experiments.latex import escape, to_latex
from experiments.report import films
from experiments.results import as_json
from tests.test_compare import make


def test_nobody_repeats_an_evaluation_until_it_pleases(tmp_path):
    """What training measured counts, and without it the smallest seed; that there are others is said."""
    path = make(tmp_path, "dqn", "Pong", 1, [1.0])
    first = path / "evaluations/000000250000.json"
    own = json.loads(first.read_text())
    for seed, mean in ((2_000_001, 5.0), (2_000_000, 4.0)):
        again = own | {"mean": mean, "fingerprint": own["fingerprint"] | {"seeds": [seed]}}
        write_json(path / f"evaluations/000000250000-machado-last-s{seed}.json", again)
    comparison = load([path])
    assert comparison.runs[0].result["mean"] == 1 and any("more than once" in note for note in comparison.notes)
    assert "easured more than once" in to_latex(as_json(comparison))
    first.unlink()
    assert load([path]).runs[0].result["mean"] == 4


def test_other_code_or_another_emulator_is_said(tmp_path):
    paths = [make(tmp_path, "dqn", "Pong", seed, [1.0]) for seed in (1, 2, 3)]
    assert not any(note.startswith("MIXED CODE") for note in load(paths).notes)
    for path, commit, version in zip(
        paths, ("a" * 40, "a" * 40 + "+", "a" * 40), ("0.11", "0.11", "0.12"), strict=True
    ):
        config = json.loads((path / "config.json").read_text())
        write_json(path / "config.json", config | {"commit": commit, "versions": {"ale-py": version}})
    (note,) = [note for note in load(paths).notes if note.startswith("MIXED CODE")]
    assert "aaaaaaaaaa+ and ale-py 0.11 (1 run)" in note and "aaaaaaaaaa and ale-py 0.12 (1 run)" in note


def test_worlds_have_emulators_of_their_own_which_are_no_unlike_code(tmp_path):
    paths = [make(tmp_path, "dqn", "Pong", 1, [1.0]), make(tmp_path, "dqn", "doom/basic", 1, [1.0], protocol=VIZDOOM)]
    for path in paths:
        config = json.loads((path / "config.json").read_text())
        versions = {"ale-py": "0.11", "vizdoom": "1.2"}
        write_json(path / "config.json", config | {"commit": "a" * 40, "versions": versions})
    assert not any(note.startswith("MIXED CODE") for note in load(paths).notes)
    assert "frame cap the game's own or 108000" in to_latex(as_json(load(paths)))
    write_json(paths[0] / "config.json", json.loads((paths[0] / "config.json").read_text()) | {"commit": "b" * 40})
    (note,) = [note for note in load(paths).notes if note.startswith("MIXED CODE")]
    assert "bbbbbbbbbb and ale-py 0.11 (1 run)" in note and "aaaaaaaaaa and vizdoom 1.2 (1 run)" in note


def test_a_score_of_what_was_the_best_once_is_said_to_be_old(tmp_path):
    path = make(tmp_path, "dqn", "Pong", 1, [9.0, 3.0, 10.0])
    best = json.loads((path / "evaluations/000000250000.json").read_text()) | {"checkpoint": "best"}
    write_json(path / "evaluations/000000250000-machado-best.json", best)
    for steps, old in ((250_000, False), (750_000, True)):
        write_weights(path / "best", {}, {"frames": 4 * steps, "agent_steps": steps, "mean": 10.0})
        comparison = load([path], checkpoint="best")
        assert any(note.startswith("NOT THE BEST ANY MORE") for note in comparison.notes) == old
    (run,) = as_json(comparison)["runs"]
    assert run["frames"] == 1_000_000 and run["hours"] == pytest.approx(0.1)  # of the three millions' 0.3


def test_games_that_a_single_agent_s_aggregates_leave_out_are_named(tmp_path):
    for game in ("Pong", "Breakout", "probe/catch"):
        make(tmp_path, "dqn", game, 1, [1.0])
    assert any(note.startswith("human-normalised aggregates leave out probe/catch") for note in load([tmp_path]).notes)


def test_a_film_is_called_that_of_the_run_it_shows(tmp_path):
    paths = [make(tmp_path, "dqn", "Pong", seed, [score]) for seed, score in ((1, 20.0), (2, 5.0), (3, -20.0))]
    (paths[1] / "recordings").mkdir()
    (paths[1] / "recordings/000000250000.mp4").write_bytes(b"film")
    ((caption, _),) = films(load(paths), 1e6)
    assert caption.endswith(f"{paths[1].name}, number 2 of 3 runs, after 250,000 agent steps")
    (paths[0] / "recordings").mkdir()
    (paths[0] / "recordings/000000250000.mp4").write_bytes(b"film")
    told = f"{paths[0].name}, the best of 3 runs, after 250,000 agent steps"
    assert films(load(paths), 1e6)[0][0].endswith(told)


def test_what_is_not_finished_or_left_out_is_said_in_print(tmp_path):
    """Of best weights, too, whose frames are fewer than those of the training."""
    paths = [make(tmp_path, "dqn", "Pong", seed, [9.0, 3.0, 1.0]) for seed in (1, 2)]
    for path in paths:
        best = json.loads((path / "evaluations/000000250000.json").read_text()) | {"checkpoint": "best"}
        write_json(path / "evaluations/000000250000-machado-best.json", best)
    assert not any("not finished" in note for note in load(paths, checkpoint="best").notes)
    (paths[0] / "evaluations/000000750000.json").unlink()
    for checkpoint in ("last", "best"):
        notes = load(paths, checkpoint=checkpoint).notes
        assert any(note.startswith("not finished: 1 of 2") for note in notes)
        assert any(note.startswith("UNEQUAL FRAMES") for note in notes)
    for file in (paths[1] / "evaluations").iterdir():
        file.unlink()
    printed = to_latex(as_json(load(paths)))
    assert (
        "Not finished: 1 of 1 runs" in printed
        and f"Left out, without an evaluation of the last weights: {escape(paths[1].name)}" in printed
    )


def test_runs_that_were_evaluated_at_their_end_only_are_drawn_though_that_is_after_unlike_times(tmp_path):
    for seed, speed in ((1, 1_000), (2, 4_000)):
        path = make(tmp_path, "dqn", "Pong", seed, [10.0 * seed])
        (path / "perf.jsonl").write_text(json.dumps({"frames": 1_000_000, "charts/FPS": speed}) + "\n")
    make(tmp_path, "c51", "Pong", 1, [1.0, 2.0])
    late = make(tmp_path, "c51", "Pong", 2, [3.0, 4.0])  # and has no time in common with the one before
    (late / "perf.jsonl").write_text(json.dumps({"frames": 1_000_000, "charts/FPS": 10}) + "\n")
    by_frames, by_hours = draw_all(load([tmp_path]))["efficiency"].axes
    hours = (1_000_000 / 1_000 + 1_000_000 / 4_000) / 2 / 3600
    (line,) = by_hours.get_lines()
    assert line.get_label() == "dqn" and line.get_xdata() == pytest.approx([hours]) and line.get_marker() == "o"
    assert line.get_ydata() == pytest.approx([(15.0 + 20.7) / 35.3])  # human-normalised
    assert by_hours.get_xlim() == pytest.approx((0, 1.03 * hours)) and len(by_frames.get_lines()) == 2
    told = [" ".join(text.get_text().split()) for text in by_hours.texts]
    assert told == ["not shown, as its runs were never evaluated at the same time: c51"] and not by_frames.texts


def test_an_agent_whose_learning_curves_have_no_point_in_common_is_named_where_they_would_be(tmp_path):
    make(tmp_path, "dqn", "Pong", 1, [-20.0, 3.0])
    unfinished, late = (make(tmp_path, "c51", "Pong", seed, [-20.0, 0.0, 1.0, 2.0]) for seed in (1, 2))
    evaluations = {path: sorted((path / "evaluations").iterdir()) for path in (unfinished, late)}
    for lost in (*evaluations[unfinished][2:], *evaluations[late][:2]):
        lost.unlink()
    (place,) = draw_all(load([tmp_path]))["curves"].axes
    told = [" ".join(text.get_text().split()) for text in place.texts]
    assert told == ["not shown, as its runs were never evaluated at the same time: c51"]
    assert [line.get_label() for line in place.get_lines()] == ["dqn"]


def test_agents_of_two_worlds_stand_in_one_table(tmp_path, capsys):
    """Their protocols are unlike; how the games of each were measured is not."""
    for agent, score in (("dqn", 5.0), ("c51", 7.0)):
        make(tmp_path, agent, "Pong", 1, [score])
        make(tmp_path, agent, "minatar/breakout", 1, [2 * score], protocol=MINATAR)
    comparison = load([tmp_path])
    assert comparison.mixed == {} and comparison.shared_games == ["Pong", "minatar/breakout"]
    assert comparison.agents == ["c51", "dqn"] and "protocol" not in comparison.differences
    data = as_json(comparison)
    assert data["conditions"]["protocol"] == "machado or minatar" and len(data["fingerprints"]) == 2
    assert [(x["x"], x["y"], x["probability"]) for x in data["improvement"]] == [("c51", "dqn", 1.0)]
    assert run_command("compare", [str(tmp_path)]) == 0 and "machado or minatar" in capsys.readouterr().out
    make(tmp_path, "rainbow", "minatar/breakout", 1, [3.0], protocol=MINATAR, epsilon=0.5)
    with pytest.raises(RunError, match=r"epsilon 0\.001 or 0\.5"):
        load([tmp_path])


def test_agents_that_trained_under_unlike_protocols_and_scores_of_unlike_emulators_are_said(tmp_path):
    one, other = (make(tmp_path, agent, "Pong", 1, [1.0]) for agent in ("dqn", "c51"))
    make(tmp_path, "dqn", "minatar/breakout", 1, [1.0], protocol=MINATAR)
    said = lambda: [note for note in load([tmp_path]).notes if note.startswith(("MIXED TRAINING", "MIXED EMULATORS"))]
    assert said() == []
    config = json.loads((one / "config.json").read_text())
    config["experiment"]["protocol"] = "nature"
    write_json(one / "config.json", config)
    (told,) = said()
    assert told.startswith("MIXED TRAINING: trained under machado (c51) or nature (dqn")
    for path, version in ((one, "ale-py 0.11"), (other, "ale-py 0.12")):
        file = path / "evaluations" / f"{250_000:012d}.json"
        write_json(file, json.loads(file.read_text()) | {"emulator": version})
    assert "MIXED EMULATORS: these scores were measured with ale-py 0.11 or ale-py 0.12" in said()


def test_another_protocol_for_the_same_world_makes_another_agent(tmp_path):
    make(tmp_path, "dqn", "Pong", 1, [1.0])
    make(tmp_path, "dqn", "minatar/breakout", 1, [2.0], protocol=MINATAR)
    own = make(tmp_path, "dqn", "Pong", 2, [3.0])
    config = json.loads((own / "config.json").read_text())
    config["experiment"]["protocol"] = "nature"
    write_json(own / "config.json", config)
    assert load([tmp_path]).agents == ["dqn (protocol machado)", "dqn (protocol nature)", "dqn"]


def test_many_agents_are_drawn_unlike(tmp_path):
    names = "dqn dqn-nature double-dqn dueling prioritized c51 qrdqn iqn munchausen m-iqn".split()
    for name in names:
        make(tmp_path, name, "Pong", 1, [-20.0, 3.0])
    lines = draw_all(load([tmp_path]))["curves"].axes[0].get_lines()
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == len(lines) == len(names)


def test_what_was_never_evaluated_in_training_is_drawn_without_a_line(tmp_path):
    for seed in (1, 2):
        make(tmp_path, "dqn", "Pong", seed, [-20.0, 3.0])
        path = make(tmp_path, "dqn", "Breakout", seed, [2.0])
        (file,) = (path / "evaluations").iterdir()  # by `highscore evaluate`, whose files are named otherwise
        file.rename(file.with_name(f"{file.stem}-machado-e2-s1.json"))
        (path / "perf.jsonl").unlink()
    figures = draw_all(load([tmp_path]))
    empty = figures["curves"].axes[0]
    assert empty.get_title("left") == "Breakout" and not empty.get_lines() and empty.get_xlim() == (0, 1)


def test_only_frames_that_would_do_are_advised(tmp_path):
    short = make(tmp_path, "dqn", "Pong", 1, [1.0, 2.0])
    long = make(tmp_path, "c51", "Pong", 1, [1.0, 2.0, 3.0, 4.0])
    (note,) = [note for note in load([tmp_path]).notes if note.startswith("UNEQUAL FRAMES")]
    assert note.endswith("compare after as many (--frames 2M), or say so")
    for file in sorted((long / "evaluations").iterdir())[:-1]:  # it was evaluated at its end only
        file.unlink()
    (note,) = [note for note in load([short, long]).notes if note.startswith("UNEQUAL FRAMES")]
    assert note.endswith("of training: say so")
