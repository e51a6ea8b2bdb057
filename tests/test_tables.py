"""What a comparison says of itself, in its notes, in captions and in files."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from matplotlib import pyplot

from envs.protocols import PROTOCOLS
from envs.scores import human_normalised
from experiments.cli import run_command
from experiments.comparison import load
from experiments.figures import content_of, draw_all
from experiments.files import RunError, write_json
from experiments.latex import folded, to_latex
from experiments.presets import preset
from experiments.results import as_json
from experiments.tables import apart, brief, to_csv, widths
from tests.test_compare import make


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


def captions(data):
    return re.findall(r"\\caption\{(.*)\}", to_latex(data))


def test_captions_say_how_long_agents_trained_and_how_many_seeds(tmp_path):
    for seed in (1, 2):
        make(tmp_path, "dqn", "Pong", seed, [1.0 * seed])
        make(tmp_path, "c51", "Pong", seed, [1.0 * seed] * 3)
    data = as_json(load([tmp_path]))
    raw, games, human, improvement = captions(data)
    assert raw.startswith(r"Raw scores, mean over seeds and 95\,\% t interval. ")
    assert "Scored after 1M to 3M frames of training, with 2 seeds a game. " in raw
    assert "As few as 2 seeds: bootstrap intervals, which aggregates (but for means of" in raw
    assert "frame cap 108000" in raw and "UNEQUAL FRAMES: " in raw
    there, ours = r". Measured as in Table~\ref{tab:raw}.", r" with 95\,\% stratified bootstrap intervals"
    assert games == r"Human-normalised scores, mean over seeds and 95\,\% t interval" + there
    assert human == f"Human-normalised scores{ours}, or Student's t of the mean over one game's runs{there}"
    assert improvement == f"Probability of improvement on Pong{ours}{there}"


def test_a_row_of_csv_says_what_its_score_depends_on(tmp_path):
    make(tmp_path, "dqn", "Pong", 1, [1.0])
    row = lambda **how: list(csv.DictReader(io.StringIO(to_csv(as_json(load([tmp_path], **how))))))[-1]
    one = row()
    assert (one["preset"], one["protocol"], one["epsilon"], one["episodes"]) == ("dqn", "machado", "0.001", "2")
    assert (one["sticky_probability"], one["noop_max"], one["mixed"]) == ("0.25", "0", "")
    assert (one["interval_low"], one["interval_high"], one["median"]) == ("1.0", "1.0", "")  # nobody wrote the median
    make(tmp_path, "dqn", "Pong", 2, [1.0], epsilon=0.05)
    assert row(mixed=True)["mixed"] == "epsilon 0.001 or 0.05" and row(mixed=True)["epsilon"] == "0.05"


def test_data_for_plots_and_tables_of_one_s_own(tmp_path):
    for seed in (1, 2):
        make(tmp_path, "dqn", "Pong", seed, [-20.7, 14.6 * seed])
        make(tmp_path, "dqn", "probe/catch", seed, [0.0, 1.0])
    data = as_json(load([tmp_path]))
    (curve,) = (one for one in data["curves"] if (one["agent"], one["game"], one["seed"]) == ("dqn", "Pong", 2))
    assert curve["frames"] == [1_000_000, 2_000_000] and curve["scores"] == [-20.7, 29.2]
    pong, probe = (data["games"][game]["dqn"] for game in ("Pong", "probe/catch"))
    assert pong["human_normalised_interval"] == pytest.approx(
        [human_normalised("Pong", end) for end in pong["interval"]]
    )  # fmt: skip
    assert probe["human_normalised_interval"] is None
    rows = list(csv.DictReader(io.StringIO(to_csv(data))))
    assert {(row["game"], row["random"], row["human"]) for row in rows} == {
        ("Pong", "-20.7", "14.6"), ("probe/catch", "", ""),
    }  # fmt: skip
    tables = to_latex(data).split(r"\begin{table}")[1:]
    assert [table.count("probe/catch") for table in tables[:2]] == [2, 0]  # the caption's, too
    assert re.findall(r"\\label\{(.*)\}", "".join(tables)) == ["tab:raw", "tab:games", "tab:human"]


def test_latex_of_many_agents_fits_a_page(tmp_path):
    for seed in (1, 2):
        for score, agent in enumerate(("dqn", "c51", "rainbow", "iqn", "ppo")):
            make(tmp_path, agent, "Pong", seed, [-1.0 * score * seed])
    text = to_latex(as_json(load([tmp_path])))
    raw, _, human, improvement = text.split(r"\begin{table}")[1:]
    assert r"\begin{tabular}{lr}" in raw and r"agent & Pong \\" in raw and r"\small" in raw
    assert r"ppo & $-$6.00 [$-$31.4, 19.4] \\" in raw
    assert r"\begin{tabular}{lrrrr}" in human  # whose intervals are below
    (below,) = re.findall(r"^dqn & 0.59 & 0.59 & 0.59 & 0.41 \\\\\n(.*) \\\\$", human, re.MULTILINE)
    assert below == "  & " + " & ".join([r"{\footnotesize [0.59, 0.59]}"] * 3 + [r"{\footnotesize [0.41, 0.41]}"])
    assert r"\begin{tabular}{llr}" in improvement and r"c51 & dqn & 0.00 [0.00, 0.84] \\" in improvement


def test_names_and_intervals_are_folded_at_spaces_where_a_terminal_is_narrow(tmp_path, capsys, monkeypatch):
    for rate in (5e-4, 1e-3):
        for seed in (1, 2):
            optimiser = replace(preset("dqn").optimiser, learning_rate=rate)
            make(tmp_path, "dqn", "VideoPinball", seed, [seed * 123_456.0], optimiser=optimiser)
    for seed in (1, 2):
        make(tmp_path, "c51", "VideoPinball", seed, [seed * 123_456.0])
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command("compare", [str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    raw = "\n".join(lines[: lines.index(next(line for line in lines if line.startswith("Human")))])
    human = "\n".join(lines)[len(raw) :]
    assert raw.count("(learning-rate") == 2 and raw.count("[-599.1k, 969.5k]") == 3
    assert human.split("Probability")[0].count("(learning-rate") == 2


def test_widths_of_columns_that_fold():
    row = ["name", "1.0 [0.5, 1.5]", "2.0 [1.5, 2.5]"]
    assert widths(["a", "b", "c"], [row], 99) == [4, 14, 14]
    assert widths(["a", "b", "c"], [row], 29) == [4, 14, 11]  # the interval of the last stands below its mean
    assert widths(["a", "b", "c"], [row], 15) == [4, 6, 5]
    assert widths(["a", "b", "c"], [row], 9) == []


def test_long_names_of_columns_are_folded_in_latex():
    assert (
        folded("dqn (learning-rate 0.001)") == r"\shortstack[r]{dqn\\(learning-rate\\0.001)}"
        and folded("a_b") == r"a\_b"
    )


def test_single_runs_have_no_intervals_and_nobody_speaks_of_any(tmp_path, capsys):
    make(tmp_path, "dqn", "Pong", 1, [1.0])
    raw, *others = captions(as_json(load([tmp_path])))
    assert "with 1 seed a game" in raw and "Every cell has a single seed: no interval over seeds" in raw
    for caption in (raw, *others):
        assert " interval" not in caption.replace("no interval over seeds", "") and "mean over seeds" not in caption
    assert run_command("compare", [str(tmp_path)]) == 0
    assert " interval" not in capsys.readouterr().out.replace("no interval over seeds", "")
    make(tmp_path, "c51", "Pong", 1, [1.0])
    make(tmp_path, "c51", "Pong", 2, [2.0])
    raw, *_ = captions(as_json(load([tmp_path])))
    assert "with 1 to 2 seeds a game" in raw and "Some cells have a single seed" in raw and r"95\,\% t interval" in raw


def test_many_agents_have_a_row_each(tmp_path, capsys):
    parts = {"whole": {}, "short": {"n_steps": 3}, "long": {"n_steps": 5}, "double": {"double": True}, "same": {}}
    for name, changed in parts.items():
        algorithm = replace(preset("dqn").algorithm, **changed)
        make(tmp_path, "dqn", "Pong", 1, [float(len(name))], algorithm=algorithm, variant=name)
    make(tmp_path, "c51", "Pong", 1, [9.0])
    assert run_command("compare", [str(tmp_path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {"agent Pong", "whole 5.00", "short 5.00", "long 4.00", "double 6.00", "same 4.00", "c51 9.00"} <= {*lines}
    assert {"short algorithm.n_steps 3", "long algorithm.n_steps 5", "whole nothing", "same nothing"} <= {*lines}
    assert "double algorithm.double True" in lines and any(line.startswith("c51 algorithm C51, ") for line in lines)


def test_the_huge_interval_of_two_seeds_does_not_flatten_the_curves(tmp_path):
    make(tmp_path, "dqn", "Pong", 1, [-20.0, -10.0])
    make(tmp_path, "dqn", "Pong", 2, [-18.0, 0.0])
    (axes,) = draw_all(load([tmp_path]))["curves"].axes
    (band,) = axes.collections
    half = 12.706 * 7.071 / 2**0.5  # t with one degree of freedom, times the standard error of -10 and 0
    assert band.get_datalim(axes.transData).y1 == pytest.approx(half - 5, rel=1e-3)
    assert axes.get_ylim() == pytest.approx((-19 - 14, -5 + 14))  # the mean goes from -19 to -5


def test_what_most_agents_have_sets_none_of_them_apart():
    rows = {"a": {"x": 1, "y": 1, "z": 2}, "b": {"x": None, "y": 3, "z": 3}, "c": {"x": 1, "y": 2, "z": 3}}
    assert apart(rows) == {"x": "c 1", "y": "c 2", "z": "a 2, c 3"}


def test_without_a_frame_cap_none_is_named(tmp_path):
    make(tmp_path, "dqn", "probe/catch", 1, [1.0], protocol=PROTOCOLS["probe"])
    (caption,) = captions(as_json(load([tmp_path])))
    assert ", no frame cap but the game's own, " in caption and "frame cap 0" not in caption
    assert run_command("report", [str(tmp_path)]) == 0
    assert "<td>frame cap</td><td>none but the game&#x27;s own</td>" in (tmp_path / "report.html").read_text()


def test_unequal_lengths_of_training_on_a_game_are_told(tmp_path):
    for game, length in (("Pong", 1), ("Breakout", 2)):
        make(tmp_path, "dqn", game, 1, [1.0] * length)
    assert not any(note.startswith("UNEQUAL") for note in load([tmp_path]).notes)  # each game has its own
    make(tmp_path, "c51", "Pong", 1, [1.0] * 3)
    (note,) = (note for note in load([tmp_path]).notes if note.startswith("UNEQUAL"))
    assert note.startswith("UNEQUAL FRAMES: on Pong 1M (dqn (frames 1M)) to 3M (c51) frames of training: ")
    make(tmp_path, "ppo", "Breakout", 1, [1.0])
    (note,) = (note for note in load([tmp_path]).notes if note.startswith("UNEQUAL"))
    assert "to 3M (c51) frames of training, and unlike on 1 more: " in note


def test_runs_of_unlike_lengths_compare_after_as_many_frames(tmp_path, capsys):
    make(tmp_path, "dqn", "Pong", 1, [1.0, 2.0, 3.0])
    make(tmp_path, "c51", "Pong", 1, [4.0, 5.0])
    late = make(tmp_path, "c51", "Pong", 2, [6.0, 7.0, 8.0])
    for name in ("000000250000", "000000500000"):
        (late / f"evaluations/{name}.json").unlink()
    (note,) = (note for note in load([tmp_path]).notes if note.startswith("UNEQUAL"))
    assert "compare after as many (--frames 2M), or say so" in note
    again = json.loads((tmp_path / "dqn-Pong-s1-0/evaluations/000000500000.json").read_text()) | {"mean": 99.0}
    write_json(tmp_path / "dqn-Pong-s1-0/evaluations/000000500000-machado-s5.json", again)  # not made in training
    comparison = load([tmp_path], frames=2_000_000)
    assert {run.agent: (run.result["mean"], run.curve[-1]) for run in comparison.runs} == {
        "dqn": (2, (2_000_000, 2)), "c51": (5, (2_000_000, 5)),
    }  # fmt: skip
    assert any(
        note == f"left out, without an evaluation in training up to 2M frames: {late.name}" for note in comparison.notes
    )
    assert not any(note.startswith(("UNEQUAL FRAMES", "not finished")) for note in comparison.notes)
    data = as_json(comparison)
    said = "scores after 2M frames of training: each run's last evaluation in training by then, after 2M"
    assert said in data["notes"] and said[1:] in to_latex(data) and data["frames"] == 2_000_000
    assert {row["frames_limit"] for row in csv.DictReader(io.StringIO(to_csv(data)))} == {"2000000"}
    place = draw_all(comparison)["curves"].axes[0]
    assert max(line.get_xdata().max() for line in place.get_lines()) == 2
    for command, out in (("compare", []), ("report", ["--out", str(tmp_path / "r.html")])):
        assert run_command(command, [str(tmp_path), "--frames", "2M", *out]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    assert "scores after 2M frames of training" in (tmp_path / "r.html").read_text()


def test_rounds_that_end_a_little_later_are_of_the_same_frames(tmp_path):
    path = make(tmp_path, "dqn", "Pong", 1, [1.0, 2.0])
    file = path / "evaluations/000000500000.json"
    write_json(file, json.loads(file.read_text()) | {"frames": 2_010_000})
    assert load([path], frames=2_000_000).runs[0].result["mean"] == 2
    assert load([path], frames=1_900_000).runs[0].result["mean"] == 1


def test_frames_that_no_score_is_of_are_refused(tmp_path):
    path = make(tmp_path, "dqn", "Pong", 1, [1.0, 2.0])
    for how, words in (
        ({"frames": 500_000}, "by 500k frames; the first evaluation was after 1M: --frames 1M"),
        ({"frames": 5, "protocol": "nature"}, "in training under nature by 5 frames; do without --frames"),
        ({"frames": -5}, "such as 5M"), ({"frames": 5, "checkpoint": "best"}, "leave one of them out"),
    ):  # fmt: skip
        with pytest.raises(RunError, match=words):
            load([path], **how)


def test_improvement_over_a_baseline_only(tmp_path, capsys):
    for score, agent in enumerate(("dqn", "c51", "rainbow", "iqn")):
        make(tmp_path, agent, "Pong", 1, [float(score)])
    comparison = load([tmp_path]).over("c51")
    data = as_json(comparison)
    assert [(x["x"], x["y"], x["probability"]) for x in data["improvement"]] == [
        ("dqn", "c51", 0.0), ("iqn", "c51", 1.0), ("rainbow", "c51", 1.0),
    ] and data["baseline"] == "c51"  # fmt: skip
    assert run_command("compare", [str(tmp_path), "--baseline", "c51"]) == 0
    assert capsys.readouterr().out.count("  beats  ") == 3
    for name, words in (("c52", "did you mean c51"), ("bow", "did you mean rainbow"), ("zzz", "there are c51, dqn, ")):
        assert run_command("compare", [str(tmp_path), "--baseline", name]) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1


def test_frames_in_four_digits():
    frames = {0: "0", 640: "640", 999.96: "1k", 3_000: "3k", 999_960: "1M", 1_234_000: "1.234M", 2e9: "2G"}
    assert [brief(n) for n in frames] == list(frames.values())


def test_best_weights_of_runs_as_long_are_not_unequal(tmp_path):
    for number, agent in enumerate(("dqn", "c51"), 1):
        path = make(tmp_path, agent, "Pong", 1, [1.0, 2.0])
        name = f"evaluations/{number * 250_000:012d}"
        write_json(path / f"{name}-best.json", json.loads((path / f"{name}.json").read_text()) | {"checkpoint": "best"})
    comparison = load([tmp_path], checkpoint="best")
    assert {run.result["frames"] for run in comparison.runs} == {1_000_000, 2_000_000}
    assert not any(note.startswith("UNEQUAL") for note in comparison.notes)


def test_the_probability_of_improvement_needs_no_human(tmp_path, capsys):
    for agent, scores in (("dqn", (1.0, 5.0)), ("c51", (3.0, 4.0))):
        for seed, score in enumerate(scores, 1):
            make(tmp_path, agent, "probe/catch", seed, [score], protocol=PROTOCOLS["probe"])
    comparison = load([tmp_path])
    data = as_json(comparison)
    assert data["shared_games"] == ["probe/catch"] and data["common_games"] == [] and data["aggregates"] == {}
    (pair,) = data["improvement"]  # c51 over dqn: 3 > 1, 3 < 5, 4 > 1, 4 < 5
    assert (pair["x"], pair["y"], pair["probability"]) == ("c51", "dqn", 0.5)
    assert set(draw_all(comparison)) == {"curves", "improvement"}
    assert run_command("compare", [str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Probability of improvement on probe/catch" in said
    assert "aggregates leave out probe/catch, for there is no human score; the probability of improvement" in said


def test_notes_say_what_leaves_out_which_game(tmp_path):
    """Pong both played, the probe too, Boxing only one."""
    for agent in ("dqn", "c51"):
        make(tmp_path, agent, "Pong", 1, [1.0 + (agent == "dqn")])
        make(tmp_path, agent, "probe/catch", 1, [5.0 * (agent == "c51")])
    make(tmp_path, "dqn", "Boxing", 1, [1.0])
    data = as_json(load([tmp_path]))
    assert data["common_games"] == ["Pong"] and data["shared_games"] == ["Pong", "probe/catch"]
    assert data["improvement"][0]["probability"] == 0.5  # each wins one game
    unplayed, inhuman = (note for note in data["notes"] if "leave out" in note)
    assert unplayed.startswith("aggregates and the probability of improvement leave out Boxing: not every agent")
    assert inhuman.startswith("human-normalised aggregates leave out probe/catch, ")
    assert all(note[1:] in caption for note in (unplayed, inhuman) for caption in captions(data)[:1])


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_figures_repeat_themselves(tmp_path, monkeypatch, kind):
    make(tmp_path, "dqn", "Pong", 1, [1.0, 2.0])
    found = []
    for moment in ("86400", "172800"):  # what a file would be stamped with
        monkeypatch.setenv("SOURCE_DATE_EPOCH", moment)
        found.append(content_of(draw_all(load([tmp_path]))["curves"], kind))
    assert found[0] == found[1] and len(found[0]) > 1_000
    assert kind == "svg" or (found[0].startswith(b"%PDF") and b"CreationDate" not in found[0])


def test_a_folder_for_a_file_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys):
    def load(*args, **how):
        raise AssertionError("it was read")

    for place in ("compare", "report"):
        monkeypatch.setattr(f"experiments.{place}.load", load)
    (tmp_path / "file").touch()
    for command, flag in (("compare", "latex"), ("compare", "csv"), ("compare", "json"), ("report", "out")):
        assert run_command(command, ["runs/x", f"--{flag}", str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"highscore {command}: --{flag} {tmp_path} is a folder: name a file in it\n"
    assert run_command("compare", ["runs/x", "--figures", str(tmp_path / "file")]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err


def test_a_report_of_several_folders_is_in_none_of_them(tmp_path, capsys):
    paths = [str(make(tmp_path, agent, "Pong", 1, [1.0])) for agent in ("dqn", "c51")]
    before = set(tmp_path.rglob("*"))
    assert run_command("report", paths) == 2
    err = capsys.readouterr().err
    assert "--out report.html" in err and err.count("\n") == 1 and set(tmp_path.rglob("*")) == before
    assert run_command("report", [*paths, "--out", str(tmp_path / "both.html")]) == 0
    assert "<h1>both</h1>" in (tmp_path / "both.html").read_text()
