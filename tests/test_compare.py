"""Comparisons: only of what is comparable, equal to hand numbers, and in every format."""

import base64
import csv
import io
import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from envs.protocols import MACHADO, NATURE
from envs.scores import human_normalised
from experiments.cli import run_command
from experiments.comparison import load
from experiments.config import to_json
from experiments.figures import draw_all
from experiments.files import RunError, write_json
from experiments.fingerprint import fingerprint
from experiments.latex import escape, to_latex
from experiments.presets import preset
from experiments.progress import status
from experiments.published import published_agent
from experiments.records import find_runs, flat, training_hours
from experiments.results import as_json, means
from experiments.tables import to_csv


def make(root, agent, game, seed, scores, **how):
    """A run directory as training leaves it, with an evaluation for each score, 1 M frames apart."""
    protocol, epsilon = how.pop("protocol", MACHADO), how.pop("epsilon", 0.001)
    frames = len(scores) * 1_000_000
    x = replace(preset(agent), game=game, seed=seed, frames=frames, protocol=protocol.name, **how)
    path = root / f"{agent}-{game}-s{seed}-{len(list(root.glob('*')))}"
    (path / "evaluations").mkdir(parents=True)
    write_json(path / "config.json", {"schema": 1, "name": path.name, "experiment": to_json(x), "command": "train"})
    with (path / "perf.jsonl").open("w") as file:
        for i, score in enumerate(scores, 1):
            seen = fingerprint(protocol, epsilon=epsilon, episodes=2, seeds=[seed], checkpoint=f"{i}", commit="c")
            write_json(path / f"evaluations/{i * 250_000:012d}.json", {
                "game": game, "protocol": protocol.name, "epsilon": epsilon, "seed": seed, "episodes": 2,
                "mean": score, "mean_interval": [score, score], "frames": i * 1_000_000, "agent_steps": i * 250_000,
                "checkpoint": "last", "fingerprint": seen,
            })  # fmt: skip
            file.write(json.dumps({"frames": i * 1_000_000, "charts/FPS": 1_000_000 / 360}) + "\n")
    return path


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """2 agents x 2 games x 2 seeds."""
    root = tmp_path_factory.mktemp("suite")
    for seed in (1, 2):
        make(root, "dqn", "Pong", seed, [-20.0, 0.0 + seed])
        make(root, "dqn", "Breakout", seed, [5.0, 40.0])
        make(root, "c51", "Pong", seed, [-20.0, 10.0 + seed])
        make(root, "c51", "Breakout", seed, [5.0, 20.0 * seed])
    return root


def test_figures_equal_hand_numbers(suite):
    data = as_json(load([suite]))
    pong = data["games"]["Pong"]["dqn"]
    assert pong["scores"] == [1, 2] and pong["mean"] == 1.5 and pong["seeds"] == [1, 2]
    assert pong["interval"] == pytest.approx((-4.853, 7.853), abs=1e-3)  # 12.706 standard errors to either side
    assert data["common_games"] == ["Breakout", "Pong"]
    expected = [human_normalised("Pong", 1.5), human_normalised("Breakout", 40)]
    assert data["aggregates"]["dqn"]["mean"]["value"] == pytest.approx(sum(expected) / 2)
    (pair,) = data["improvement"]  # c51 and dqn: Pong 1, Breakout 20 and 40 against 40 and 40: 0.25
    assert (pair["x"], pair["y"], pair["probability"]) == ("c51", "dqn", (1 + 0.25) / 2)
    assert pair["interval"] == (0.5, 0.75)  # Pong is always won
    assert means(load([suite]), "dqn") == {"Pong": 1.5, "Breakout": 40}
    published = published_agent("DQN CNN (Dopamine)")
    (shown,) = as_json(load([suite], published=(published,)))["published"]
    theirs = [human_normalised(game, published.scores[game]) for game in ("Pong", "Breakout")]
    assert shown["aggregates"]["mean"] == pytest.approx(sum(theirs) / 2)
    assert data["differences"]["algorithm"] == {"c51": "C51", "dqn": "DQN"}
    assert data["runs"][0]["hours"] == pytest.approx(0.2)  # 1 M frames in a tenth of an hour
    assert data["mixed"] == {} and any("as few as 2 seeds" in note for note in data["notes"])


@pytest.mark.parametrize("how, word", [({"protocol": NATURE}, "sticky probability"), ({"epsilon": 0.05}, "epsilon")])
def test_mixed_fingerprints_are_refused_or_said(suite, tmp_path, capsys, how, word):
    other = make(tmp_path, "dqn", "Pong", 3, [1.0, 2.0], **how)
    assert run_command("compare", [str(suite), str(other)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and word in line and "highscore evaluate RUN" in line and "--mixed True" in line
    assert run_command("compare", [str(suite), str(other), "--mixed", "True"]) == 0
    assert "MIXED FINGERPRINTS" in capsys.readouterr().out
    data = as_json(load([suite, other], mixed=True))
    assert "Scores were not measured alike" in to_latex(data) and len(data["fingerprints"]) == 2
    assert all(data["conditions"][key] == " or ".join(map(str, values)) for key, values in data["mixed"].items())


def test_pairs_that_are_too_many_to_read_are_left_to_the_json(suite, capsys, monkeypatch):
    monkeypatch.setattr("experiments.tables.MOST", 0)
    assert run_command("compare", [str(suite)]) == 0
    said = capsys.readouterr().out
    assert "of 1 pairs of agents are in --json" in said and "beats" not in said


def test_the_last_checkpoint_counts_and_the_best_only_when_asked(suite, tmp_path):
    path = make(tmp_path, "dqn", "Pong", 1, [20.0, 3.0])
    alone = as_json(load([path]))
    assert alone["runs"][0]["score"] == 3
    assert alone["games"]["Pong"]["dqn"]["interval"] is None  # a single seed has none
    assert alone["aggregates"]["dqn"]["IQM"] == {"value": human_normalised("Pong", 3), "interval": None}
    with pytest.raises(RunError, match="evaluate RUN --checkpoint best"):
        load([path], checkpoint="best")
    best = json.loads((path / "evaluations/000000250000.json").read_text()) | {"checkpoint": "best"}
    write_json(path / "evaluations/000000250000-machado-20260101.json", best)
    comparison = load([path], checkpoint="best")
    assert comparison.runs[0].result["mean"] == 20 and any("flatters" in note for note in comparison.notes)
    assert comparison.runs[0].curve == [(1_000_000, 20), (2_000_000, 3)]
    assert "BEST CHECKPOINT" in to_latex(as_json(comparison))
    assert not any("not finished" in note for note in comparison.notes)  # best weights are of any time
    later = best | {"agent_steps": 500_000, "frames": 2_000_000, "mean": 30.0, "episodes": 1}
    write_json(path / "evaluations/000000500000-machado-20260102.json", later)
    assert load([path], checkpoint="best").runs[0].result["mean"] == 30  # they were others by then, not the 20's


def test_the_evaluation_that_all_runs_share_is_taken(tmp_path):
    """One run was evaluated again with more episodes: the shared one counts, until the other has it, too."""
    paths = [make(tmp_path, "dqn", "Pong", seed, [1.0]) for seed in (1, 2)]
    for n, path in enumerate(paths):
        longer = json.loads((path / "evaluations/000000250000.json").read_text()) | {"episodes": 100, "mean": 7.0}
        longer["fingerprint"] = longer["fingerprint"] | {"episodes": 100}
        write_json(path / "evaluations/000000250000-machado-20260101.json", longer)
        comparison = load(paths)
        assert {run.result["mean"] for run in comparison.runs} == ({1.0} if n == 0 else {7.0})
        assert any("also measured" in note for note in comparison.notes)
    for path in paths:
        greedier = json.loads((path / "evaluations/000000250000-machado-20260101.json").read_text()) | {"mean": 9.0}
        greedier |= {"epsilon": 0.0, "fingerprint": greedier["fingerprint"] | {"epsilon": 0.0}}
        write_json(path / "evaluations/000000250000-machado-20260102.json", greedier)
    assert {run.result["mean"] for run in load(paths).runs} == {9.0}


def test_curves_of_agents_that_trained_under_two_protocols_say_so(tmp_path):
    """Evaluated alike afterwards, their scores compare; their curves do not."""
    paths = [
        make(tmp_path, name, "Pong", 1, [1.0, 2.0], protocol=how) for name, how in (("dqn", MACHADO), ("c51", NATURE))
    ]
    alike = json.loads((paths[0] / "evaluations/000000500000.json").read_text())
    for path in paths:
        write_json(path / "evaluations/000000500000-machado-20260101.json", alike | {"mean": 7.0})
    comparison = load(paths)
    assert not comparison.mixed and {run.result["protocol"] for run in comparison.runs} == {"machado"}
    assert any(note.startswith("MIXED CURVES") and "protocol" in note for note in comparison.notes)
    figures = draw_all(comparison)
    marked = {name for name, figure in figures.items() if figure.get_suptitle().startswith("MIXED")}
    assert marked == {"curves", "efficiency"} and len(figures) > 2
    assert not load([paths[0]]).mixed_curves


def test_agents_whose_names_are_cut_stay_apart(tmp_path):
    x = preset("rainbow")
    for rate, beta in itertools.product((1e-3, 1e-4), (0.4, 0.5)):
        make(
            tmp_path, "rainbow", "Pong", 1, [1e4 * rate], optimiser=replace(x.optimiser, learning_rate=rate),
            algorithm=replace(x.algorithm, atoms=21 if beta > 0.4 else 51, double=rate < 1e-3),
            network=replace(x.network, noise=beta, hidden=int(1e6 * rate), head="dueling" if beta > 0.4 else "linear"),
        )  # fmt: skip
    agents = load([tmp_path]).agents
    assert len(set(agents)) == 4 and all(len(agent) <= 60 and "…" in agent for agent in agents)
    assert agents == load([tmp_path]).agents


def test_one_seed_twice_is_said_and_one_run_counts_once(tmp_path):
    path = make(tmp_path, "dqn", "Pong", 1, [1.0])
    (tmp_path / "link").symlink_to(path)
    assert len(load([tmp_path, path, tmp_path / "." / path.name]).runs) == 1
    make(tmp_path, "dqn", "Pong", 1, [1.0])
    assert any("SEEDS TWICE: dqn on Pong, seed 1" in note for note in load([tmp_path]).notes)


def test_runs_of_a_version_with_fewer_settings_are_of_the_same_agent(tmp_path):
    old, new = (make(tmp_path, "ppo", "Pong", seed, [1.0]) for seed in (1, 2))
    config = json.loads((old / "config.json").read_text())
    for part, name in ((config["experiment"], "compile"), (config["experiment"]["network"], "standardise")):
        del part[name]
    write_json(old / "config.json", config)
    assert load([old, new]).agents == ["ppo"]
    assert load([old, make(tmp_path, "ppo", "Pong", 3, [1.0], compile=True)]).agents != ["ppo"]


@pytest.mark.parametrize("spoil", [{"protocol": 3}, {"fingerprint": [1]}, {"episodes": "many"}])
def test_an_evaluation_that_is_none_is_left_out_and_the_rest_compared(tmp_path, spoil):
    path, other = (make(tmp_path, "dqn", "Pong", seed, [1.0]) for seed in (1, 2))
    file = path / "evaluations/000000250000.json"
    write_json(file, json.loads(file.read_text()) | spoil)
    (path / "perf.jsonl").write_text("[1]\n")
    comparison = load([path, other])
    assert [run.record.path for run in comparison.runs] == [other] and path.name in comparison.notes[0]


def test_agents_of_one_preset_are_told_apart_by_what_differs(tmp_path):
    for steps in (1, 3):
        algorithm = replace(preset("dqn").algorithm, n_steps=steps)
        make(tmp_path, "dqn", "Pong", 1, [1.0], algorithm=algorithm)
    make(tmp_path, "c51", "Pong", 1, [1.0])
    comparison = load([tmp_path])
    assert set(comparison.agents) == {"c51", "dqn (n-steps 1)", "dqn (n-steps 3)"}
    assert comparison.differences["algorithm.n_steps"]["dqn (n-steps 3)"] == 3
    make(tmp_path, "dqn", "Pong", 1, [1.0], algorithm=algorithm, variant="longer")
    make(tmp_path, "dqn", "Pong", 2, [1.0], variant="longer")  # the same name for other settings
    make(tmp_path, "dqn", "Pong", 3, [1.0], variant="mine")
    named = {"longer (n-steps 1)", "longer (n-steps 3)", "mine"}
    assert set(load([tmp_path]).agents) == {"c51", "dqn (n-steps 1)", "dqn (n-steps 3)"} | named


def test_every_format(suite, tmp_path, capsys):
    out = tmp_path / "out"
    line = f"{suite} --figures {out} --latex {out}/t.tex --csv {out}/t.csv --published"
    assert run_command("compare", [*line.split(), "DQN CNN (Dopamine)", "Agent57", "--json", f"{out}/t.json"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    said = "published DQN CNN (Dopamine), after 200 M frames: sticky actions 0.25"
    assert "fingerprint" in shown and said in shown and said[1:] in (out / "t.tex").read_text()
    rows = list(csv.DictReader((out / "t.csv").read_text().splitlines()))
    assert len(rows) == 8 and {"fingerprint", "weights", "commit", "seed", "score"} <= rows[0].keys()
    data = json.loads((out / "t.json").read_text())
    assert data["published"][1]["scores"]["Pong"] == 20.67
    assert r"\begin{tabular}{lrrrr}" in (out / "t.tex").read_text() and "Pong & " in (out / "t.tex").read_text()
    names = {"curves", "aggregates", "profiles", "efficiency", "improvement"}
    assert all({p.stem for p in out.glob(f"*.{kind}")} == names for kind in ("svg", "png", "pdf"))
    assert b"<svg" in (out / "curves.svg").read_bytes() and (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert run_command("compare", [str(suite), "--csv", "-"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 8


def test_latex_escapes():
    assert escape("a_b & 5 % $x$ {y} <z> #~^\\") == (
        r"a\_b \& 5 \% \$x\$ \{y\} \textless{}z\textgreater{} \#\textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


def test_what_cannot_be_compared_is_refused(suite, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for args, words in (
        ([], "name runs"), ([str(tmp_path / "none")], "there is no folder"),
        ([str(tmp_path / "empty")], "no run in"), ([str(suite), "--published", "Nobody"], "highscore list published"),
        ([str(suite), "--protocol", "nature"], "highscore evaluate RUN --protocol nature"),
        ([str(suite), "--protocol", "natur"], "--protocol natur does not exist; for Breakout there are machado"),
    ):  # fmt: skip
        assert run_command("compare", args) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1


def test_reading_runs(tmp_path, suite):
    assert len(find_runs([suite, suite.parent / suite.name])) == 8
    settings = flat(to_json(preset("dqn")))
    assert settings["algorithm"] == "DQN" and settings["replay.importance_exponent"] == "Linear"
    path = make(tmp_path, "dqn", "Pong", 1, [1.0])
    with (path / "perf.jsonl").open("a") as file:  # it was resumed, and measured the same frames again; then was torn
        file.write('{"frames": 1000000, "charts/FPS": 500}\n{"frames": 2000')
    assert training_hours(path)[-1] == (1_000_000, pytest.approx(1_000_000 / 500 / 3600))
    assert status(path) == "crashed"
    write_json(path / "summary.json", {"finished": True})
    assert status(path) == "finished"


def test_help_needs_no_torch():
    code = (
        "import sys; from experiments.cli import run_command\n"
        "try: run_command('compare', ['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), done.stderr


class Strict(HTMLParser):
    """Notes what a page loads from elsewhere, and which scripts it has."""

    def __init__(self):
        super().__init__()
        self.elsewhere, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name.startswith("on") or (name in ("src", "href") and not value.startswith("data:")):
                self.elsewhere.append((tag, name, value))


def test_a_report_holds_everything_and_nothing_runs_in_it(suite, tmp_path, capsys):
    copy = tmp_path / "suite"
    shutil.copytree(suite, copy)
    evil = make(copy, "dqn", "Pong", 9, [1.0, 2.0])
    config = json.loads((evil / "config.json").read_text())
    write_json(evil / "config.json", config | {"command": "<script>alert(1)</script>"})
    for name in ("000000000001.mp4", "000000000002.mp4", "untrained.mp4"):
        (evil / "recordings").mkdir(exist_ok=True)
        (evil / "recordings" / name).write_bytes(b"film " + name.encode())
    assert run_command("report", [str(copy), "--published", "DQN CNN (Dopamine)"]) == 0
    text = (copy / "report.html").read_text()
    found = Strict()
    found.feed(text)
    assert found.elsewhere == [] and "script" not in found.tags
    assert found.tags.count("img") == 5 and found.tags.count("video") == 1
    assert base64.b64encode(b"film 000000000002.mp4").decode() in text  # the newest
    for words in ("&lt;script&gt;", "learning_rate", "published DQN CNN (Dopamine)", "frame cap", "optimality gap"):
        assert words in text, words
    before, commands = text.split("<details><summary>The command of each run</summary>")
    assert commands.count("<td>train</td>") == 8 and "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in commands
    assert before.count(f"<td>{evil.name}</td>") == 1 and "<td>train</td>" not in before  # rows are not in their way
    assert run_command("report", [str(copy), "--out", str(tmp_path / "r.html"), "--megabytes", "0"]) == 0
    assert "<video" not in (tmp_path / "r.html").read_text()


def test_aggregates_are_of_games_that_every_agent_played(tmp_path):
    for agent, game in (("dqn", "Pong"), ("dqn", "Breakout"), ("c51", "Pong")):
        make(tmp_path, agent, game, 1, [1.0])
    data = as_json(load([tmp_path]))
    assert data["common_games"] == ["Pong"] and any("leave out Breakout" in note for note in data["notes"])


def test_cells_with_more_seeds_than_others_are_told(tmp_path):
    """They weigh more in the interquartile mean and the gap."""
    for game, seed in (("Pong", 1), ("Pong", 2), ("Breakout", 1)):
        make(tmp_path, "dqn", game, seed, [1.0])
    assert any(note.startswith("UNEQUAL SEEDS: 1 to 2 runs") for note in load([tmp_path]).notes)
    make(tmp_path, "dqn", "Breakout", 2, [1.0])
    assert not any(note.startswith("UNEQUAL") for note in load([tmp_path]).notes)


def test_a_run_that_began_with_the_weights_of_another_is_another_agent(tmp_path):
    paths = [make(tmp_path, "dqn", "Pong", seed, [1.0]) for seed in (1, 2)]
    config = json.loads((paths[1] / "config.json").read_text())
    write_json(paths[1] / "config.json", config | {"weights": {"tensors_sha256": "0123456789abcdef"}})
    assert set(load(paths).agents) == {"dqn (weights None)", "dqn (weights 01234567)"}


@pytest.mark.parametrize("spoilt", [[1, 2, 3], "wide", [float("nan"), 2.0], None])
def test_a_damaged_interval_is_left_out_of_what_is_written(tmp_path, spoilt):
    path = make(tmp_path, "dqn", "Pong", 1, [1.0])
    (file,) = (path / "evaluations").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mean_interval": spoilt, "median": spoilt and "x"}))
    data = as_json(load([path]))
    (row,) = csv.DictReader(io.StringIO(to_csv(data)))
    assert (row["interval_low"], row["interval_high"], row["median"]) == ("", "", "")
    assert json.dumps(data, allow_nan=False)
