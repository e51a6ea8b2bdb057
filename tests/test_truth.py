"""What people see of an agent is true: places, moments, and what belongs to whom."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from envs.library import game_of
from envs.protocols import MACHADO
from envs.recording import Recording
from envs.screen import SILENCE, ScreenFrame, screen_of
from envs.timestep import TimeStep
from experiments.episodes import shown_of
from experiments.stats import typical
from experiments.video import video_of
from experiments.viewer import explain, film
from experiments.viewer.pictures import heat
from experiments.viewer.show import Show, Wishes
from experiments.viewer.source import find_source
from networks.gtrxl import GTrXL
from tests.watched import CPU


@pytest.mark.parametrize("side", [10, 84])
def test_the_glow_is_where_the_saliency_is_largest(side):
    """A border does not count more than once for it."""
    saliency = torch.zeros(side, side)
    saliency[side // 2, side // 3], saliency[0, 0], saliency[side - 1, 5] = 1.0, 0.25, 0.5
    opacity = heat(saliency)[..., 3]
    assert np.unravel_index(opacity.argmax(), opacity.shape) == (side // 2, side // 3) and opacity.max() == 230
    assert opacity[0, 0] == 0 and 0 < opacity[side - 1, 5] < 115


@pytest.mark.parametrize("shape, place", [((10, 10), (2, 5)), ((60, 80), (33, 47)), ((84, 84), (41, 20))])
def test_a_place_that_an_agent_looks_at_is_shown_where_it_is(shape, place):
    torch.manual_seed(0)
    obs = torch.randint(0, 256, (2, *shape)).float()
    found = explain.perturbation_saliency(lambda images: images[:, :1, place[0], place[1]], obs)
    exact = explain.perturbation_saliency(lambda images: images[:, :1, place[0], place[1]], obs, stride=1)
    assert found.shape == shape and np.unravel_index(int(exact.argmax()), shape) == place
    for axis in (0, 1):
        at = torch.arange(shape[axis]).float()
        centre = [float((x.sum(1 - axis) * at).sum() / x.sum()) for x in (found, exact)]
        assert centre[0] == pytest.approx(centre[1], abs=0.3)
    if min(shape) < 16:
        assert torch.equal(found, exact)


def test_a_return_distribution_is_even_where_its_quantiles_are():
    low, high, weight = explain.histogram((torch.linspace(0, 1, 200).expand(2, -1), torch.full((2, 200), 1 / 200)))
    assert (low, high) == (0.0, 1.0) and weight.shape[1] == 200  # shared by both actions, they stay as they are
    quantiles = torch.stack([torch.linspace(0, 1, 200), torch.linspace(0, 0.999, 200)])
    _, _, weight = explain.histogram((quantiles, torch.full((2, 200), 1 / 200)))
    assert weight.shape[1] == 51 and weight[0].tolist() == pytest.approx([1 / 51] * 51, abs=1 / 200)
    _, _, one = explain.histogram((torch.tensor([[0.0, 0.1, 0.2, 1.0, 1.0, 1.0]]), torch.full((1, 6), 1 / 6)))
    assert one[0].tolist() == pytest.approx([0.5, 0.5])  # of a single action, too
    flat = torch.full((2, 1_001), 1 / 1_001)
    assert explain.histogram((torch.linspace(-1, 1, 1_001).expand(2, -1), flat))[2].shape == (2, 1_001)


def test_a_mask_is_no_memory():
    before, after = (torch.zeros(1, 3), torch.zeros(1, 4, dtype=torch.bool)), (torch.tensor([[3.0, 4.0, 0.0]]), None)
    after = (after[0], torch.ones(1, 4, dtype=torch.bool))
    assert explain.memory_norms(before, after) == (5.0, 5.0)


def test_a_window_that_slides_does_not_change_by_that():
    core = GTrXL(2, 0, 4, 5, 1)
    step = TimeStep(*(torch.zeros(1, 1, dtype=torch.bool) for _ in TimeStep._fields))
    with torch.no_grad():
        state = core.initial_state(1)
        for x in ([1.0, 2.0], [3.0, 1.0], [0.0, 1.0]):
            state, before = core(torch.tensor([[x]]), step, state)[1], state
    newest = float(state[0][:, -1].norm())
    assert explain.memory_norms(before, state) == (pytest.approx(float(state[0].norm())), pytest.approx(newest))
    assert not torch.equal(before[0], state[0])


def test_a_picture_that_is_another_game_s_is_told():
    """What this one pays is drawn from a chance that no seed decides."""
    game = game_of("gym/tests.own_game:Lottery-v0")
    rules = game.protocol("gymnasium")
    games, screen = game.make(1, rules, device=CPU, stack=1), screen_of(game.name, rules)
    screen.follow(games, games.reset(0))
    step = games.step(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"not that of the game: .*Lottery-v0 has chances of its own"):
        screen.follow(games, step)
    games.close()
    screen.close()


def test_a_short_film_of_another_episode_is_refused(tmp_path):
    game = game_of("gym/tests.own_game:Lottery-v0")
    recording = Recording(game.name, game.protocol("gymnasium"), 0, 0, bytes(90), ((0, 5.0), (1, 7.0)), 12.0)
    with pytest.raises(ValueError, match=r"an agent step scored .*, not 5\.0"):
        video_of(recording, tmp_path / "v.mp4", max_seconds=1)


class Tagged:
    """A player whose frames are coloured by the agent step that they are of, and by their place in it."""

    def __init__(self, first, steps):
        self.step, self.steps, self.first = 0, steps, first
        self.scene = self.shown()

    def shown(self):
        frames = [np.full((2, 2, 3), 10 * self.step + k, np.uint8) for k in range(self.first if self.step == 0 else 4)]
        return SimpleNamespace(frames=[ScreenFrame(pixels, SILENCE) for pixels in frames], score=0.0)

    @property
    def ended(self):
        return self.step == self.steps

    def extend(self):
        self.step += 1
        self.scene = self.shown()


class Side:
    """Shows beside the picture which step the agent has looked at."""

    def __init__(self, player, height, scale):
        self.player, self.size = player, scale * height

    def draw(self):
        return np.full((self.size, 1, 3), self.player.step, np.uint8)


@pytest.mark.parametrize("first", [1, 4])
def test_what_an_agent_makes_of_a_frame_stands_beside_that_frame(monkeypatch, first):
    monkeypatch.setattr(film, "Panel", Side)
    monkeypatch.setattr(film, "glow", lambda player: None)
    seen = [(int(pixels[0, 0, 0]), int(pixels[0, 2, 0])) for pixels, _ in film.play([Tagged(first, 3)], True, 1, [], 0)]
    later = [(10 * t + k, t if k == 3 else t - 1) for t in (1, 2, 3) for k in range(4)]
    assert seen == [(k, 0) for k in range(first)] + later
    kept = [int(pixels[0, 0, 0]) for pixels, _ in film.play([Tagged(first, 3)], False, 1, [], 1)]
    assert kept == [first - 1, 13, 23, 33]  # the last of each step, which is what the agent saw
    assert [int(p[0, 0, 0]) for p, _ in film.play([Tagged(first, 5)], False, 1, [], 2)] == [first - 1, 23, 43]


@pytest.mark.parametrize("rate", [15, 8.75, 30, 50])
def test_a_gif_lasts_as_long_as_what_it_shows(tmp_path, rate):
    frames = [np.full((4, 4, 3), i, np.uint8) for i in range(70)]
    assert film.write_gif(tmp_path / "a.gif", frames, rate) == 70
    lasts = []
    with Image.open(tmp_path / "a.gif") as gif:
        for i in range(gif.n_frames):
            gif.seek(i)
            lasts.append(gif.info["duration"])
    assert sum(lasts) == pytest.approx(1_000 * 70 / rate, abs=6) and min(lasts) >= 20


def test_the_episode_that_is_shown_is_in_the_middle():
    assert typical([3.0, 9.0, 5.0]) == 2 and typical([4.0, 1.0, 1.0, 8.0]) == 1 and typical([7.0]) == 0
    told = {"scores": [3.0, 9.0, 5.0], "recordings": [[0, 1], [1, 1], [2, 1]]}
    assert shown_of(told) == 3
    for strange in (None, [], [1.0], [1.0, 2.0, "x"], [1.0, 2.0, float("nan")]):
        assert shown_of(told | {"scores": strange}) == 1


@pytest.fixture
def show(watched_run):
    made = Show(find_source(watched_run.path), MACHADO, CPU, "agent", [], Wishes(epsilon=0.9), lambda message: None)
    made.begin()
    yield made
    made.close()


def test_a_key_that_means_nothing_plays_nothing(show):
    for keys in (["9"], []):  # this game has four actions
        show.obey({"do": "keys", "value": keys})
        show.advance()
    assert not any(shown.scene.taken for shown in show.lanes[0].shown) and not show.lanes[0].player.person
    for keys in (["ArrowLeft"], []):
        show.obey({"do": "keys", "value": keys})
        show.advance()
    assert [shown.scene.taken for shown in show.lanes[0].shown][-2:] == [True, True]


def test_how_it_compares_with_a_human_is_said_of_a_whole_episode(show):
    while not show.lanes[0].ended:
        show.advance()
    *before, last = [shown.facts["normalised"] for shown in show.lanes[0].shown]
    assert set(before) == {None} and last is not None


def test_who_takes_over_where_a_recording_failed_plays_on(show, monkeypatch):
    for _ in range(6):
        show.advance()
    lane = show.lanes[0]

    def fails(games, step, show=True):
        raise ValueError("the picture is not that of the game")

    with monkeypatch.context() as patch:
        patch.setattr(lane.player.screen, "follow", fails)
        show.advance()
    assert lane.failure and lane.ended and len(lane) == 7
    show.obey({"do": "seek", "value": 4})
    show.obey({"do": "pause", "value": False})
    show.obey({"do": "keys", "value": ["ArrowLeft"]})
    show.advance()
    assert not lane.failure and len(lane) == 6 and lane.shown[-1].scene.taken
    assert len(lane.player.games.played(0).actions) == 5
    show.advance()
    assert len(lane) == 7
