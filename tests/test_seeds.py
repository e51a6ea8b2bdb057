"""Curves of several seeds, and what figures show of them: what was measured, where it was."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot

from envs.scores import human_normalised
from experiments import seeds, stats
from experiments.comparison import load
from experiments.figures import DOTTED, content_of, draw_all
from experiments.files import write_json
from experiments.presets import preset
from experiments.seeds import iqm_of, mean_of, on_a_grid
from experiments.sensitivity import sweeps
from tests.test_compare import make


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


def every(period, scores, late=0.0):
    """A curve with an evaluation each period."""
    return [(period * i + late, score) for i, score in enumerate(scores, 1)]


def title_of(figure):
    (legend,) = figure.legends
    return legend.get_title().get_text()


def names_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_evaluation_is_a_point_and_a_collapse_is_drawn():
    scores = np.ones((2, 200))
    scores[:, 100] = 0
    found = mean_of([every(1e6, scores[0]), every(1e6, scores[1], late=5e3)])
    assert len(found.x) == 200 and found.x[0] == 1e6 + 2_500 and found.middle[100] == 0 and not found.beyond.size
    iqm = iqm_of([[every(1e6, scores[0])], [every(1e6, scores[1], late=5e3)]])
    assert len(iqm.x) == 200 and iqm.middle[100] == 0 and iqm.band is None  # a single run of each game


def test_a_band_does_not_close_where_seeds_cross():
    found = mean_of([every(1e6, [0.0, 10.0]), every(1e6, [10.0, 0.0])])
    assert found.x.tolist() == [1e6, 2e6]
    np.testing.assert_allclose(found.band, stats.mean_band(np.array([[0.0, 10.0], [10.0, 0.0]])))


def test_evaluations_at_unlike_times_are_points_of_their_own():
    x, values = on_a_grid([every(1e6, [0.0, 1.0, 2.0]), every(1e6, [0.0, 1.0, 2.0], late=2e5)])
    assert x.tolist() == [1e6, 1.2e6, 2e6, 2.2e6, 3e6, 3.2e6]
    np.testing.assert_allclose(values[0], [0, 0.2, 1, 1.2, 2, np.nan])
    found = mean_of([every(1e6, [0.0, 1.0, 2.0]), every(1e6, [0.0, 1.0, 2.0], late=2e5)])
    assert found.x.tolist() == [1.2e6, 2e6, 2.2e6, 3e6] and found.middle[0] == pytest.approx(0.1)
    assert found.beyond[0].tolist() == [3e6, 3.2e6]  # of two seeds one goes on
    x, values = on_a_grid([every(1.0, [0.0] * 4), [(1.0, 5.0), (1.001, 6.0), (2.0, 7.0)]])
    assert x.tolist() == [1, 1.001, 2, 3, 4]  # one was evaluated twice at once


def test_curves_without_a_common_point_have_no_mean():
    x, values = on_a_grid([[(0.5, 1.0), (1.0, 2.0)], [(1.2, 3.0), (2.4, 4.0)]])
    assert x.tolist() == [0.5, 1, 1.2, 2.4] and np.isnan(values).sum() == 4
    found = mean_of([[(0.5, 1.0), (1.0, 2.0)], [(1.2, 3.0), (2.4, 4.0)]])
    assert found.x.size == found.middle.size == found.beyond.size == 0
    assert iqm_of([[[(0.5, 1.0), (1.0, 2.0)], [(1.2, 3.0), (2.4, 4.0)]]]).x.size == 0
    x, values = on_a_grid([[(1.0, 1.0)], [(1.0, 3.0), (2.0, 4.0)]])
    assert x.tolist() == [1, 2] and values[:, 0].tolist() == [1, 3]
    x, values = on_a_grid([[(1.0, 1.0)], [(4.0, 3.0)]])
    assert x.tolist() == [2.5] and values.tolist() == [[1], [3]]  # evaluated at their end only


def test_beyond_the_shortest_run_goes_what_is_left_while_it_is_half():
    lengths = (1, 2, 3, 4)
    found = mean_of([every(1.0, [float(n)] * n) for n in lengths])
    assert found.x.tolist() == [1] and found.middle.tolist() == [2.5]
    assert found.beyond.tolist() == [[1, 2, 3], [2.5, 3, 3.5]]  # of four three, then two, and not the last alone
    games = [[every(1.0, [1.0] * 3), every(1.0, [1.0] * 2)], [every(1.0, [4.0] * 3), every(1.0, [4.0] * 3)]]
    iqm = iqm_of(games)
    assert iqm.x.tolist() == [1, 2] and iqm.middle.tolist() == [2.5, 2.5]
    assert iqm.beyond.tolist() == [[2, 3], [2.5, 3]]  # of 1 and 4 and 4


def test_interquartile_means_are_those_of_each_point_and_many_points_are_thinned_out(monkeypatch):
    scores = np.random.default_rng(0).normal(size=(2, 4, 30))  # [games, runs, points]
    games = [[every(1.0, run) for run in game] for game in scores]
    found = iqm_of(games)
    np.testing.assert_allclose(found.middle, [float(stats.iqm([*scores[:, :, i]])) for i in range(30)])
    alone = stats.interval(stats.iqm, [*scores[:, :, 7]], draws=300)
    np.testing.assert_allclose(found.band[:, 7], alone)
    monkeypatch.setattr(seeds, "AT_ONCE", 4)
    np.testing.assert_array_equal(iqm_of(games).band, found.band)
    monkeypatch.setattr(seeds, "MOST", 10)
    assert iqm_of(games).x.tolist() == [1, 4, 7, 10, 13, 17, 20, 23, 26, 30]
    three = [[every(1.0, run) for run in scores[0, :3]]]
    np.testing.assert_allclose(
        iqm_of(three).band, stats.mean_band(scores[0, :3][:, [0, 3, 6, 9, 12, 16, 19, 22, 25, 29]])
    )


def test_profiles_fall_where_runs_are(tmp_path):
    for seed, score in enumerate((-20.0, -11.0, 3.0, 3.0)):
        make(tmp_path, "dqn", "Pong", seed, [score])
    place = draw_all(load([tmp_path]))["profiles"].axes[0]
    (line,) = place.get_lines()
    own = [human_normalised("Pong", score) for score in (-20.0, -11.0, 3.0)]
    assert line.get_drawstyle() == "steps-post" and line.get_xdata()[1:4] == pytest.approx(own)
    assert line.get_ydata().tolist() == [1, 0.75, 0.5, 0, 0]
    assert line.get_xdata()[0] < 0 and line.get_xdata()[-1] > own[-1]
    assert place.get_xlim() == (line.get_xdata()[0], line.get_xdata()[-1])


def test_an_unfinished_seed_is_said_to_be_none_of_what_is_dotted(tmp_path):
    make(tmp_path, "dqn", "Pong", 1, [-20.0, -10.0, 10.0])
    unfinished = make(tmp_path, "dqn", "Pong", 2, [-20.0, 0.0, 20.0])
    whole = draw_all(load([tmp_path]))
    assert all(DOTTED not in names_of(whole[name]) for name in ("curves", "efficiency"))
    (unfinished / "evaluations/000000750000.json").unlink()
    figures = draw_all(load([tmp_path]))
    mean, rest = figures["curves"].axes[0].get_lines()
    assert mean.get_xdata().tolist() == [1, 2] and mean.get_ydata().tolist() == [-20, -5]
    assert rest.get_xdata().tolist() == [2, 3] and rest.get_ydata().tolist() == [-5, 10]
    assert rest.get_color() == mean.get_color() and rest.get_linestyle() != mean.get_linestyle()
    assert names_of(figures["curves"]) == ["dqn", DOTTED]
    by_frames, by_hours = figures["efficiency"].axes
    assert len(by_frames.get_lines()) == 2 and len(by_hours.get_lines()) == 1


def test_labels_say_how_many_seeds_intervals_are_of(tmp_path):
    for agent in ("dqn", "c51"):
        make(tmp_path, agent, "Pong", 1, [1.0])
    figures = draw_all(load([tmp_path]))
    assert title_of(figures["profiles"]) == "Pong; a single seed each, without intervals"
    for seed in range(2, 11):
        make(tmp_path, "dqn", "Pong", seed, [1.0 * seed])
        if seed < 4:
            make(tmp_path, "c51", "Pong", seed, [1.0 * seed])
    figures = draw_all(load([tmp_path]))
    words = "95 % intervals over 3 to 10 seeds (a bootstrap's are too narrow of fewer than ten)"
    for name in ("profiles", "efficiency"):
        assert title_of(figures[name]).endswith(words)
    for name in ("aggregates", "improvement"):
        assert figures[name].get_supxlabel().endswith(words)
    assert title_of(figures["curves"]) == "mean and 95 % t interval over 3 to 10 seeds"
    for seed in range(4, 11):
        make(tmp_path, "c51", "Pong", seed, [1.0 * seed])
    assert title_of(draw_all(load([tmp_path]))["efficiency"]) == "95 % intervals over 10 seeds"


def test_short_runs_are_drawn_by_thousands_of_frames_and_ticks_are_few(tmp_path):
    path = make(tmp_path, "dqn", "Pong", 1, [1.0, 2.0])
    assert draw_all(load([tmp_path]))["curves"].axes[0].get_xlabel() == "million emulator frames"
    for file in (path / "evaluations").iterdir():
        result = json.loads(file.read_text())
        write_json(file, result | {"frames": result["frames"] // 500})
    figures = draw_all(load([tmp_path]))
    for place in (figures["curves"].axes[0], figures["efficiency"].axes[0]):
        assert place.get_xlabel() == "thousand emulator frames"
        assert place.get_lines()[0].get_xdata().tolist() == [2, 4]
        assert len(place.get_xticks()) <= 6


def test_long_names_and_many_pairs_fit_into_the_figure_of_improvement(tmp_path, monkeypatch):
    for name in ("short", "a-variant-with-a-name-as-long-as-some-people-make-them", "another-of-just-such-a-length"):
        make(tmp_path, "dqn", "Pong", 1, [float(len(name))], variant=name)
    figure = draw_all(load([tmp_path]))["improvement"]
    (place,) = figure.axes
    names = [text.get_text() for text in place.get_yticklabels()]
    assert len(names) == 3 and all(name.count("\n") == 1 and "\nover " in name for name in names)
    figure.canvas.draw()
    width, _ = figure.get_size_inches() * figure.dpi
    assert place.get_window_extent().width > 3 * figure.dpi
    for text in (figure._supxlabel, place.xaxis.label, *place.get_yticklabels()):
        assert 0 <= text.get_window_extent().x0 and text.get_window_extent().x1 <= width
    monkeypatch.setattr("experiments.figures.MOST", 1)
    figure = draw_all(load([tmp_path]))["improvement"]
    assert len(figure.axes[0].get_yticklabels()) == 1
    assert figure.get_supxlabel().endswith("\nnot shown: 2 more pairs")


def test_all_figures_repeat_themselves(tmp_path):
    for seed, scores in ((1, [-20.0, 3.0]), (2, [-18.0, 5.0, 6.0])):
        make(tmp_path, "dqn", "Pong", seed, scores)
        make(tmp_path, "c51", "Pong", seed, scores[::-1])
    first, second = ([content_of(one, "svg") for one in draw_all(load([tmp_path])).values()] for _ in range(2))
    assert first == second and len(first) == 6  # two lengths of training are a setting that was varied


def test_no_label_of_many_panels_is_cut(tmp_path):
    for game in ("Pong", "Breakout", "Boxing", "Freeway", "Seaquest"):
        path = make(tmp_path, "dqn", game, 1, [1.0])
        (file,) = (path / "evaluations").iterdir()
        write_json(file, json.loads(file.read_text()) | {"frames": 4_000})
    figure = draw_all(load([tmp_path]))["curves"]
    figure.canvas.draw()
    right = figure.get_size_inches()[0] * figure.dpi
    assert all(place.xaxis.label.get_window_extent().x1 <= right for place in figure.axes)


def test_figures_ask_what_the_tables_ask(tmp_path):
    for agent, score in (("dqn", 1.0), ("c51", 2.0), ("rainbow", 3.0)):
        for seed in (1, 2):
            make(tmp_path, agent, "Pong", seed, [score, score + seed])
    whole = draw_all(load([tmp_path]))
    (place,) = whole["improvement"].axes
    assert len(place.get_yticklabels()) == 3 and not whole["curves"].get_suptitle()
    asked = draw_all(load([tmp_path], frames=1_000_000).over("dqn"))
    (place,) = asked["improvement"].axes
    assert [name.get_text() for name in place.get_yticklabels()] == ["c51 over dqn", "rainbow over dqn"]
    assert {figure.get_suptitle() for figure in asked.values()} == {"after 1M frames of training"}


def varied(root, rates, steps=(1,), games=("Pong",), seeds=(1, 2)):
    """Runs of dqn with every learning rate and number of steps; the score tells of both."""
    for rate in rates:
        for n in steps:
            x = preset("dqn")
            own = {"optimiser": replace(x.optimiser, learning_rate=rate), "algorithm": replace(x.algorithm, n_steps=n)}
            for game in games:
                for seed in seeds:
                    make(root, "dqn", game, seed, [1e4 * rate + n + seed], **own)


def test_a_setting_that_was_varied_alone_is_an_axis():
    differences = {
        "algorithm.n_steps": {"a": 1, "b": 3, "c": 1, "d": 3, "e": None},
        "optimiser.learning_rate": {"a": 1e-4, "b": 1e-4, "c": 1e-3, "d": 1e-3, "e": 1e-4},
        "algorithm.double": {"a": True, "b": True, "c": True, "d": True, "e": False},
    }
    found = sweeps(differences)
    assert set(found) == {"algorithm.n_steps", "optimiser.learning_rate"}  # a switch is no axis
    assert found["algorithm.n_steps"] == {
        "learning_rate 0.0001": [(1, "a"), (3, "b")],
        "learning_rate 0.001": [(1, "c"), (3, "d")],
    }
    assert sweeps({"x": {"a": 1, "b": 2}, "y": {"a": [1], "b": [1, 2]}}) == {}  # as other code may have them
    assert sweeps({"algorithm.n_steps": {"a": 1, "b": 3}, "algorithm.double": {"a": True, "b": False}}) == {}


def test_lines_of_agents_that_differ_in_much_have_their_names(tmp_path):
    for agent in ("dqn", "c51"):
        for frames in (1, 2):
            make(tmp_path, agent, "Pong", 1, [1.0] * frames)
    assert list(sweeps(load([tmp_path]).differences)["frames"]) == ["c51", "dqn"]
    much = {f"s{i}": {"a (x 1)": i, "a (x 2)": i, "a (x 3)": -i, "a (x 4)": -i} for i in (1, 2, 3)}
    twice = sweeps(much | {"x": {f"a (x {i})": i for i in (1, 2, 3, 4)}})["x"]
    assert [len(line) for line in twice.values()] == [2, 2]  # none is lost that has another's name


def test_sensitivity_shows_means_of_one_game_and_their_intervals(tmp_path):
    varied(tmp_path, (1e-5, 1e-4, 1e-3))
    figure = draw_all(load([tmp_path]))["sensitivity"]
    (place,) = figure.axes
    (line,) = place.get_lines()
    assert line.get_xdata().tolist() == [1e-5, 1e-4, 1e-3]
    assert line.get_ydata().tolist() == pytest.approx([2.6, 3.5, 12.5])
    assert place.get_xscale() == "log" and place.get_xlabel() == "optimiser.learning_rate"
    assert [text.get_text() for text in place.get_xticklabels()] == ["1e-05", "0.0001", "0.001"]
    assert len(place.collections) == 3 and not figure.legends  # an interval each; one line needs no name
    assert figure.get_supxlabel() == "95 % t intervals over 2 seeds"


def test_sensitivity_to_two_settings_has_a_line_for_each_of_the_other_s_values(tmp_path):
    varied(tmp_path, (1e-4, 2e-4), steps=(1, 3, 5), games=("Pong", "Breakout"))
    steps, rates = draw_all(load([tmp_path]))["sensitivity"].axes
    assert [len(place.get_lines()) for place in (steps, rates)] == [2, 3]
    assert rates.get_xscale() == "linear" and "IQM" in steps.get_ylabel()
    names = names_of(steps.figure)
    assert names == ["learning_rate 0.0001", "learning_rate 0.0002", "n_steps 1", "n_steps 3", "n_steps 5"]


def test_agents_that_differ_in_more_than_one_setting_have_no_sensitivity(tmp_path):
    for agent in ("dqn", "c51"):
        make(tmp_path, agent, "Pong", 1, [1.0])
    assert "sensitivity" not in draw_all(load([tmp_path]))
