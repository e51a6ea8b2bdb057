"""Statistics: equal to stored reference values, to hand numbers, and covering as often as they say."""

import numpy as np
import pytest

from envs.scores import human_normalised
from experiments import stats
from experiments.published import atari5_estimate, published_agent, published_agents, published_curve

# Human-normalised (mean, median, IQM) at 400k frames, as stored from the methods' repositories. The IQM only where it
# is that of per-game means: pooled over runs it cannot be made from means.
ATARI100K = {
    "BBF": (2.247, 0.917, 1.139), "EfficientZero": (1.943, 1.090, 1.047), "Simulus": (1.645, 0.982, None),
    "DIAMOND": (1.459, 0.373, None), "SR-SPR (RR16)": (1.271, 0.684, 0.700), "STORM": (1.222, 0.425, None),
    "REM": (1.222, 0.280, None), "IRIS": (1.046, 0.289, None), "TWM": (0.956, 0.505, None),
    "MuZero (100k)": (0.562, 0.227, 0.288), "SPR": (0.616, 0.396, None), "SimPLe": (0.332, 0.134, None),
}  # fmt: skip
# Median, IQM of game means, and Atari-5 estimate, 55 games at 199 M frames.
DOPAMINE = {
    "C51 CNN": (1.324, 1.640, 1.182), "C51 Impala": (1.881, 2.144, 1.356), "DQN CNN": (1.064, 1.406, 0.897),
    "DQN Impala": (1.171, 1.567, 1.254), "IQN CNN": (1.374, 1.954, 1.132), "IQN Impala": (1.407, 2.208, 1.332),
    "QR-DQN CNN": (0.891, 1.173, 0.604), "QR-DQN Impala": (0.972, 1.240, 0.458), "Rainbow CNN": (1.374, 1.674, 1.091),
    "Rainbow Impala": (1.708, 2.540, 1.668),
}  # fmt: skip


def normalised(raw):
    return [np.array([human_normalised(game, score)]) for game, score in raw.items()]


@pytest.mark.parametrize("agent", ATARI100K)
def test_aggregates_equal_the_reference_of_atari_100k(agent):
    raw = published_agent(agent).scores
    assert len(raw) == 26
    mean, median, iqm = ATARI100K[agent]
    assert float(stats.mean(normalised(raw))) == pytest.approx(mean, abs=1e-3)
    assert float(stats.median(normalised(raw))) == pytest.approx(median, abs=1e-3)
    if iqm is not None:
        assert float(stats.iqm(normalised(raw))) == pytest.approx(iqm, abs=1e-3)


@pytest.mark.parametrize("agent", DOPAMINE)
def test_aggregates_equal_the_reference_of_dopamine(agent):
    games = [game for game in published_agent("DQN CNN (Dopamine)").scores]
    raw = {game: published_curve(f"{agent} (Dopamine)", game).mean[-1] for game in games}
    assert len(raw) == 55
    median, iqm, estimate = DOPAMINE[agent]
    assert float(stats.median(normalised(raw))) == pytest.approx(median, abs=1e-3)
    assert float(stats.iqm(normalised(raw))) == pytest.approx(iqm, abs=1e-3)
    assert atari5_estimate(raw) == pytest.approx(estimate, abs=1e-3)


def test_hand_numbers():
    two = [np.array([0.0, 1.0, 2.0, 9.0]), np.array([0.5, 0.5, 0.5, 1.5])]
    assert float(stats.mean(two)) == (3 + 0.75) / 2 and float(stats.median(two)) == (3 + 0.75) / 2
    assert float(stats.iqm(two)) == (0.5 + 0.5 + 1 + 1.5) / 4  # 0 .5 | .5 .5 1 1.5 | 2 9
    assert float(stats.optimality_gap(two)) == pytest.approx((1 + 0 + 0 + 0 + 0.5 * 3 + 0) / 8)
    assert stats.performance_profile(two, np.array([0.0, 0.5, 1.0])).tolist() == [7 / 8, 4 / 8, 3 / 8]
    a, b = [np.array([1.0, 2.0])], [np.array([1.0, 0.0])]  # wins: 1 > 0, 2 > 1, 2 > 0; one tie
    assert float(stats.probability_of_improvement(a, b)) == 3.5 / 4
    assert float(stats.probability_of_improvement(b, a)) == 0.5 / 4


def test_draws_are_stratified_and_repeat_themselves():
    games = [np.array([1.0, 2.0]), np.array([10.0, 20.0, 30.0])]
    drawn = stats.resample(games, 50)
    assert [x.shape for x in drawn] == [(50, 2), (50, 3)]
    assert drawn[0].max() == 2 and drawn[1].min() == 10  # no score leaves its game
    assert all((x == y).all() for x, y in zip(drawn, stats.resample(games, 50), strict=True))
    assert stats.interval(stats.iqm, [np.array([3.0]), np.array([4.0])]) == (3.5, 3.5)
    low, high = stats.profile_band(games, np.array([1.5]))[:, 0]
    assert low <= stats.performance_profile(games, np.array([1.5]))[0] <= high


def test_intervals_cover_as_often_as_they_say():
    """200 experiments of 5 games x 10 runs, each game with its own law: the true mean is mostly inside."""
    generator = np.random.default_rng(0)
    truth, inside = np.array([0.0, 1, 2, 3, 4]), 0
    for trial in range(200):
        games = [generator.normal(m, 1 + m, 10) for m in truth]
        low, high = stats.interval(stats.mean, games, draws=400, seed=trial)
        inside += low < truth.mean() < high
    assert 0.85 < inside / 200 < 0.99


def test_there_is_no_interval_over_games_while_one_of_them_has_a_single_run():
    two, one = np.array([1.0, 2.0]), np.array([1.0])
    assert stats.several([two, two]) and not stats.several([two, one]) and not stats.several([two], [one])
    assert stats.aggregates([two, two])["mean"]["interval"] == (1, 2)
    assert stats.aggregates([two, one])["mean"]["interval"] is None
    assert stats.improvements({"x": [two], "y": [one]})[0]["interval"] is None


def test_no_published_score_is_that_of_a_human():
    """A table that slipped by a column, as one of our sources has done for one game."""
    equal = [
        (agent.name, game)
        for agent in published_agents().values()
        for game, score in agent.scores.items()
        if human_normalised(game, score) == pytest.approx(1, abs=1e-6)
    ]
    assert equal == [("IRIS", "Pong")]  # which has 14.6, too
    assert published_agent("Prioritized").scores["Jamesbond"] == 5_148


def test_a_misspelt_published_agent_is_answered_with_the_closest():
    with pytest.raises(ValueError, match=r"'rainbow'; did you mean Rainbow, Rainbow \(CleanRL\)"):
        published_agent("rainbow")
    with pytest.raises(ValueError, match="`highscore list published` shows them all"):
        published_agent("7" * 20)


def test_every_published_figure_names_its_source():
    for agent in published_agents().values():
        assert agent.scores and agent.protocol and len(agent.source) > 20, agent.name
    assert published_curve("DQN CNN (Dopamine)", "Pong").middle[:2] == [0.5, 1.5]  # means of a million frames each
    assert published_curve("BTR", "Pong").middle[:2] == [1, 2]  # evaluations
    with pytest.raises(ValueError, match="there are"):
        published_curve("nobody", "Pong")


def test_both_sides_of_an_improvement_are_drawn_apart():
    low, high = stats.improvement_interval([np.arange(9.0)], [np.arange(9.0)])
    assert 0.2 < low < 0.27 and 0.73 < high < 0.8
    low, high = stats.profile_band([np.arange(100.0)], np.array([49.5]))[:, 0]
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.02) and high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.02)


def test_every_aggregate_of_draws_is_that_of_each_draw():
    games = [np.arange(8.0) / 8, np.arange(6.0) / 3]
    drawn, found = stats.resample(games, 50), stats.aggregates(games, draws=200)
    for name, statistic in stats.AGGREGATES.items():
        np.testing.assert_allclose(statistic(drawn), [float(statistic([g[i] for g in drawn])) for i in range(50)])
        assert found[name]["interval"] == stats.interval(statistic, games, 200)
        assert found[name]["interval"][0] < found[name]["value"] < found[name]["interval"][1]


def test_where_all_pairs_end_alike_the_probability_of_improvement_has_a_bound():
    """A bootstrap of such runs does not vary; of a coin, n heads of n say that it has (1 - 0.95) / 2 ** (1 / n)."""
    won = stats.improvement_interval([np.array([5.0, 6.0, 7.0])], [np.array([1.0, 2.0])])
    assert won == pytest.approx((0.025**0.5, 1), abs=1e-9)
    lost = stats.improvement_interval([np.zeros(2)] * 13, [np.ones(3)] * 13)
    assert lost == pytest.approx((0, 1 - 0.025 ** (1 / 26)), abs=1e-9)
    low, high = stats.improvement_interval([np.zeros(2), np.ones(2)], [np.ones(2), np.zeros(2)])
    assert low == pytest.approx(1 - high, abs=1e-9) and 0 < low < 0.1  # one game is won and one lost
    assert stats.hoeffding_interval(1.0, 1) == pytest.approx((0.025, 1))
    low, high = stats.hoeffding_interval(0.75, 40)
    assert 40 * (0.75 * np.log(0.75 / low) + 0.25 * np.log(0.25 / (1 - low))) == pytest.approx(np.log(40))
    assert 40 * (0.75 * np.log(0.75 / high) + 0.25 * np.log(0.25 / (1 - high))) == pytest.approx(np.log(40))


def test_the_bound_holds_of_runs_that_succeed_or_fail():
    """The law that is hardest on it: all runs of one agent beat or lose to whatever the other's have."""
    generator, outside = np.random.default_rng(0), 0
    for _ in range(2_000):
        mine = [np.where(generator.random(3) < 0.28, 1.0, -1.0)]
        low, high = stats.improvement_interval(mine, [np.zeros(3)]) if abs(mine[0].sum()) == 3 else (0, 1)
        outside += not low <= 0.28 <= high
    assert 0.01 < outside / 2_000 < 0.035  # where all three are won, in 22 of 1000; it promises 25 at most to a side


def test_a_mean_over_a_single_game_has_the_t_interval_of_its_runs():
    runs, found = [1.0, 2.0, 6.0], stats.aggregates([np.array([1.0, 2.0, 6.0])])
    assert all(found[name]["interval"] == stats.mean_interval(runs) for name in ("mean", "median", "IQM"))
    four = [np.array([1.0, 2.0, 6.0, 7.0])]
    assert stats.interval(stats.mean, four) == stats.mean_interval(four[0])
    low, high = stats.interval(stats.iqm, four)  # of the middle two
    assert 1 <= low < 4 < high <= 7
    low, high = stats.interval(stats.mean, [four[0], four[0]])
    assert 1 < low < 4 < high < 7  # over two games it is a bootstrap's, as in rliable


def test_bands_of_profiles_are_of_95_percent():
    (low, high) = stats.profile_band([np.array([0.0, 1.0] * 50)], np.array([0.5]))[:, 0]
    assert 0.17 < high - low < 0.23  # 1.96 * 2 * sqrt(.25 / 100); of 90 %: 0.16
