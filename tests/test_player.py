"""Watching plays as evaluation does, and shows what was played."""

import shutil
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agents.curious import Bonus, Curious
from agents.iqn import IQN
from agents.sequence import tree_map
from agents.transition import MultiStep
from envs.atari import make_atari
from envs.library import game_of
from envs.protocols import MACHADO, NATURE, PROTOCOLS
from envs.recording import Recording, render
from envs.screen import AtariScreen, PictureScreen, screen_of
from experiments.build import build_agent
from experiments.episodes import find_episode
from experiments.files import RunError
from experiments.presets import PRESETS
from experiments.run import Run
from experiments.scoring import command_seed, keep_best, load_agent, score_agent
from experiments.viewer import explain
from experiments.viewer.history import History
from experiments.viewer.source import find_source
from tests.watched import CPU, EXPERIMENT, make_run, watched


@pytest.fixture(scope="module")
def agent(watched_run):
    source = find_source(watched_run.path)
    return source.load(source.chosen, (1, 84, 84), 4, CPU)


def test_watched_episodes_are_those_of_evaluation(agent, monkeypatch):
    """Score and every action, for the same seeds, of two that are watched side by side; one draws to look, too."""
    short = replace(MACHADO, max_frames=480)
    monkeypatch.setitem(PROTOCOLS, "machado", short)
    monkeypatch.setattr("tests.watched.MACHADO", short)
    implicit = replace(EXPERIMENT, algorithm=IQN(samples=4), network=replace(EXPERIMENT.network, memory="none"))
    agents = agent, build_agent(implicit, (1, 84, 84), 4, CPU)
    agents[1].online.eval()
    both = [watched(one, seed, epsilon=0.5) for seed, one in enumerate(agents)]
    while not all(player.ended for player in both):
        for player in both:
            if not player.ended:
                player.extend()
    for seed, player in enumerate(both):
        result, (recording,) = score_agent(
            agents[seed], EXPERIMENT, 1, epsilon=0.5, seed=command_seed(seed), device=CPU
        )
        assert player.scene.score == result["mean"] and player.record() == recording
        player.close()


def test_an_agent_with_noise_is_watched_without_it_as_it_is_evaluated(tmp_path):
    network = replace(EXPERIMENT.network, memory="none", noise=5.0)
    source = find_source(make_run(tmp_path, experiment=replace(EXPERIMENT, network=network)).path)
    agent = source.load(source.chosen, (1, 84, 84), 4, CPU)
    player = watched(agent, 0)
    with torch.no_grad():
        outputs = [agent.online(tree_map(lambda x: x[None], player.scene.step), ())[0][0, 0] for _ in range(2)]
    values = [explain.view(agent.algorithm, output) for output in outputs]
    assert values[0].value == values[1].value == player.scene.view.value
    player.close()


def test_the_screen_is_that_of_the_recording(watched_run, agent):
    """Every frame in colour of an episode that began inside its environment's log; and its sound."""
    recording = find_episode(watched_run, "2")
    assert recording.begin > 100
    player = watched(None, 0, recording=recording)
    shown, sounds = list(player.scene.frames), set()
    while not player.ended:
        shown += player.extend().frames
    for frame, (pixels, _) in zip(shown, render(recording), strict=True):
        assert np.array_equal(frame.pixels, pixels)
        assert frame.sound.shape == (512,)
        sounds.add(frame.sound.tobytes())
    assert len(sounds) > 5
    player.close()


# Five games of the 57 begin with frames of their own, which their emulator plays whenever it begins anew.
@pytest.mark.parametrize(
    "name, protocol",
    [("Berzerk", MACHADO), ("NameThisGame", NATURE), ("Pong", NATURE)],
    ids=lambda x: getattr(x, "name", x),
)  # fmt: skip
def test_the_picture_is_that_of_the_game_from_its_first_frame(name, protocol):
    rules = replace(protocol, max_frames=92)
    games, screen, generator = make_atari(name, 1, rules), AtariScreen(name, rules), np.random.default_rng(0)
    step = games.reset(3)
    for _ in range(2):
        frames = screen.follow(games, step)
        while not step.last.item():
            step = games.step(torch.tensor([int(generator.integers(games.num_actions))]))
            frames += screen.follow(games, step)
        recorded = [pixels for pixels, _ in render(Recording.of(name, rules, games.played(0)))]
        assert len(frames) == len(recorded)  # of which the last is that before, where the cap ends an episode
        assert all(np.array_equal(frame.pixels, x) for frame, x in zip(frames[:-1], recorded[:-1], strict=True))
        step = games.step(torch.tensor([0]))
    games.close()


def test_no_ops_are_followed_into_the_next_episode():
    games = make_atari("Seaquest", 1, NATURE)
    screen = AtariScreen("Seaquest", NATURE)
    step, generator, episodes = games.reset(3), np.random.default_rng(0), 0
    screen.follow(games, step)
    while episodes < 1 or not step.first.item():
        step = games.step(torch.tensor([int(generator.integers(games.num_actions))]))
        screen.follow(games, step, show=False)  # refuses a reward or a life that is not the game's
        episodes += int(step.last)
    step = games.step(torch.tensor([0]))
    (frame, *_) = screen.follow(games, step)
    assert frame.pixels.shape == (210, 160, 3)
    with pytest.raises(ValueError, match="not that of the game"):
        screen.follow(games, step._replace(reward=step.reward + 1))
    games.close()


@pytest.mark.parametrize("name", ["probe/catch", "minatar/breakout"])
def test_a_game_of_another_world_has_its_picture(name):
    game = game_of(name)
    rules = game.protocol(game.protocols[0])
    games, screen = game.make(1, rules), screen_of(name, rules)
    assert isinstance(screen, PictureScreen) and len(screen.action_names) == games.num_actions
    step, frames = games.reset(0), []
    while True:
        frames += screen.follow(games, step)
        if step.last.item():
            break
        step = games.step(torch.tensor([len(frames) % games.num_actions]))
    recorded = [pixels for pixels, _ in render(Recording.of(name, rules, games.played(0)))]
    assert all(np.array_equal(frame.pixels, pixels) for frame, pixels in zip(frames, recorded, strict=True))
    (frame,) = screen.follow(games, games.step(torch.tensor([0])))  # the next episode
    assert frame.pixels.dtype == np.uint8 and frame.sound.size == 0
    games.close()


def test_pictures_of_an_episode_come_in_order(agent):
    """The frames in a scene are those that led to what the agent sees: the newest grey one is the last in colour."""
    player = watched(agent, 2)
    for scene in islice(iter(player.extend, None), 30):
        last = scene.frames[-1].pixels.astype(float) @ [0.299, 0.587, 0.114]
        seen = scene.step.obs[0, -1].numpy().astype(float)
        small = np.asarray(Image.fromarray(last.astype(np.uint8)).resize((84, 84), Image.Resampling.BOX), float)
        assert np.corrcoef(small.flat, seen.flat)[0, 1] > 0.98
    player.close()


@pytest.mark.parametrize("change, words", [({"score": 77.0}, "not 77"), ({"actions": bytes(9)}, "another step")])
def test_a_recording_that_plays_otherwise_is_refused(watched_run, change, words):
    recording = replace(find_episode(watched_run, "1"), **change)
    player = watched(None, 0, recording=recording)
    with pytest.raises(ValueError, match=words):
        while True:
            player.extend()


def test_going_back_and_on_is_as_if_nothing_had_been(agent):
    history = History(watched(agent, 4), "agent")
    history.start(4, 0.9)
    for _ in range(40):
        history.extend(None)
    before = [shown.picture for shown in history.shown], dict(history.tracks)
    actions = list(history.player.games.logs[0].actions)
    history.cut(15)
    assert len(history) == 16 and len(history.tracks["value"]) == 16
    for action in actions[15:]:
        history.extend(action)
    assert [shown.picture for shown in history.shown] == before[0] and history.tracks == before[1]
    assert history.player.person and torch.equal(history.scene(40).step.obs, history.player.scene.step.obs)
    history.player.close()


def test_nothing_is_played_on_after_a_restart_or_a_way_back_that_failed(agent, monkeypatch):
    """The game is elsewhere by then: the last scene's action would be played in another one."""

    def fail(*args, **more):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    history = History(watched(agent, 4), "agent")
    for owner, name, act in (
        (agent, "act", lambda: history.start(5, 0.9)),
        (history.player.screen, "follow", lambda: history.cut(2)),
    ):
        history.start(4, 0.9)
        for _ in range(4):
            history.extend(None)
        assert not history.ended
        with monkeypatch.context() as patches, pytest.raises(torch.OutOfMemoryError):
            patches.setattr(owner, name, fail)
            act()
        assert history.ended and history.failure == "CUDA out of memory."
    history.start(5, 0.9)
    assert len(history) == 1 and not history.ended and not history.failure
    history.player.close()


def test_a_checkpoint_is_enough(watched_run, tmp_path, monkeypatch):
    whole = find_source(watched_run.path)
    assert (whole.chosen, list(whole.checkpoints), whole.run.path) == ("2000", ["1000", "2000"], watched_run.path)
    inside = find_source(watched_run.path / "checkpoints/000000001000")
    assert (inside.chosen, inside.run.path) == ("1000", watched_run.path)
    assert find_source(watched_run.path / "checkpoints/000000001000/tensors.safetensors").chosen == "1000"
    (tmp_path / "mine").symlink_to(watched_run.path / "checkpoints/000000001000")
    assert find_source(tmp_path / "mine").chosen == "1000"
    monkeypatch.chdir(watched_run.path / "checkpoints/000000001000")
    assert find_source(Path(".")).chosen == find_source(Path("tensors.safetensors")).chosen == "1000"
    away = tmp_path / "²"  # is a digit, and no number
    shutil.copytree(watched_run.path / "checkpoints/000000002000", away)
    with pytest.raises(ValueError, match="copy that of its run"):
        find_source(away)
    shutil.copy(watched_run.path / "config.json", away)
    given = find_source(away)
    assert (given.chosen, given.run) == ("²", None) and given.load("²", (1, 84, 84), 4, CPU)
    with pytest.raises(ValueError, match="of that name"):
        find_source(watched_run.path, "²")
    with pytest.raises(ValueError, match="another game"):
        given.load("²", (1, 84, 84), 18, CPU)


def test_the_best_weights_are_watched_where_they_are_asked_for(watched_run, tmp_path):
    run = Run.open(shutil.copytree(watched_run.path, tmp_path / "run"))
    agent, _ = load_agent(run, CPU)
    weight = "head.layers.2.bias"
    with torch.no_grad():
        agent.online.get_parameter(weight).fill_(0.25)
    keep_best(run, agent, {"frames": 2_000, "agent_steps": 500, "mean": 7.0})
    source = find_source(run.path)
    assert list(source.checkpoints) == ["best", "1000", "2000"] and source.chosen == "2000"
    assert list(source.renewed("1000").checkpoints) == ["best", "1000", "2000"]
    shutil.rmtree(run.path / "checkpoints/000000002000")
    for path, words in ((run.path, "best"), (run.path / "best", ""), (run.path / "best/weights.safetensors", "")):
        found = find_source(path, words)
        assert found.chosen == "best" and found.run.path == run.path
        loaded = found.load("best", (1, 84, 84), 4, CPU).online
        assert not loaded.training and bool((loaded.get_parameter(weight) == 0.25).all())
    assert find_source(run.path).chosen == "1000"
    (run.path / "best/weights.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"the weights in .*best are damaged"):
        found.load("best", (1, 84, 84), 4, CPU)


def test_what_values_count_is_said():
    doom, games = PRESETS["ppo-doom"].algorithm, PRESETS
    assert explain.worth(doom) == "discounted by 0.99, rewards times 0.01"
    assert explain.worth(games["dqn"].algorithm) == "discounted by 0.99, rewards within ±1"
    assert explain.worth(games["r2d2"].algorithm) == "discounted by 0.997"  # unscaled for people
    assert "with the policy's entropy" in explain.worth(games["btr"].algorithm)
    assert explain.worth(Curious(games["dqn"].algorithm, Bonus(weight=1.0))).endswith("with the intrinsic reward")


def test_a_few_random_fractions_are_no_picture_of_a_distribution():
    for samples, shown in ((8, False), (64, True)):
        output = torch.randn(samples, 3), torch.rand(samples)
        assert (explain.spread(IQN(samples=samples), output) is not None) == shown


def test_an_algorithm_of_somebody_s_own_is_shown_as_what_it_says_of_itself():
    """Not by the names of its settings, nor by the shape of what its network gives."""

    @dataclass(frozen=True)
    class Own(MultiStep):
        temperature: float = 0.5  # of something else

        def values(self, output):
            return output.amax(-1)  # of several opinions [..., A, K], which are no distribution

    seen = explain.view(Own(), torch.tensor([[1.0, 2.0], [4.0, 0.0]]))
    assert seen.values.tolist() == [2.0, 4.0] and seen.policy is None and seen.spread is None
    assert "entropy" not in explain.worth(Own())
