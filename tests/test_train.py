"""From a command to a scored, watchable agent: real games, real files."""

import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from rich.console import Console

from agents.explore import Linear
from agents.replay import ReplayConfig
from envs.atari import make_atari
from envs.protocols import ATARI100K, MACHADO, NATURE
from envs.recording import Recording, render
from envs.screen import SILENCE
from experiments import trainer
from experiments.build import build_agent
from experiments.cli import run_command
from experiments.config import Evaluation
from experiments.files import RunError, read_rows
from experiments.log import Log, say_what_next
from experiments.loop import Scores
from experiments.presets import preset
from experiments.records import training_hours
from experiments.run import Run
from experiments.scoring import command_seed, keep_best, load_agent, score_agent
from experiments.train import Train, begin_with, run_training
from experiments.video import video_of, write_film, write_video
from experiments.wandb_mirror import NoMirror
from tests.test_resume import run_whole, small

SMALL = replace(preset("prioritized").network, torso="nips", hidden=32)
TINY = replace(
    preset("prioritized"), network=SMALL, game="Pong", frames=10_400, num_envs=2,
    explore=Linear(1.0, 0.1, 1_000, 500),
    replay=ReplayConfig(5_000, 16, 1_000, 8, 0.6, Linear(0.4, 1.0, 3_000)), target_period=50,
    evaluation=Evaluation(8_000, episodes=1, epsilon=0.05, video_seconds=1), protocol="machado",
)  # fmt: skip


def quiet():
    return Console(quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One short training on real Pong, to its end."""
    run, stopped_by = run_training(
        Train(TINY, device="cpu", wandb="off", runs=tmp_path_factory.mktemp("runs"), name="tiny"), quiet()
    )
    assert stopped_by == 0
    return run


def test_a_finished_run_has_everything(finished):
    run = Run.open(finished.path)
    assert run.experiment == TINY and run.config["changed"]["num_envs"] == [8, 2]
    rows = list(read_rows(run.path / "metrics.jsonl"))
    trained = [row for row in rows if row.get("losses/td_loss") is not None]
    assert trained and all(math.isfinite(row["losses/td_loss"]) for row in trained)
    assert all(row["frames"] == 4 * row["agent_steps"] for row in rows)
    epsilons = [(row["charts/epsilon"], row["agent_steps"]) for row in rows if "charts/epsilon" in row]
    assert all(told == pytest.approx(TINY.explore(steps)) for told, steps in epsilons)
    assert all(row["charts/FPS"] == pytest.approx(4 * row["charts/SPS"]) for row in read_rows(run.path / "perf.jsonl"))
    last = trained[-1]
    assert last["charts/updates"] == (last["agent_steps"] - 1_000) // 8
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["finished"] and summary["frames"] >= 10_400
    assert (
        last["frames"] == training_hours(run.path)[-1][0] == summary["frames"]
    )  # the last figures are those of the end
    assert len(list((run.path / "evaluations").iterdir())) == 2  # at 8,000 frames and at the end
    assert len(list((run.path / "recordings").glob("*.mp4"))) == 2
    assert len(run.checkpoints()) == 1
    assert not list(run.path.rglob(".*writing*"))


def test_scores_are_raw_and_episodes_are_whole(finished):
    episodes = list(read_rows(finished.path / "episodes.jsonl"))
    assert episodes and all(-21 <= episode["score"] <= 21 for episode in episodes)
    assert all(episode["steps"] > 500 for episode in episodes)


def test_evaluate_writes_what_a_score_depends_on(finished, capsys):
    assert (
        run_command("evaluate", [str(finished.path), "--episodes", "3", "--protocol", "nature", "--epsilon", "0.05"])
        == 0
    )
    out = capsys.readouterr().out
    assert "Pong, nature, epsilon 0.05, 3 episodes, last checkpoint of" in out and "human-normalised" in out
    (path,) = (finished.path / "evaluations").glob("*-nature-*.json")
    result = json.loads(path.read_text())
    assert len(result["scores"]) == 3 and result["mean"] == pytest.approx(np.mean(result["scores"]))
    assert result["mean_interval"][0] <= result["mean"] <= result["mean_interval"][1]
    assert result["seed"] == 2_000_000  # none that a training has, or the evaluations that chose its best weights
    assert {"seed", "protocol", "epsilon", "tensors_sha256", "commit", "frames"} <= result.keys()


def test_evaluation_repeats_itself(finished):
    agent, _ = load_agent(finished, torch.device("cpu"))

    def scores(seed):
        return score_agent(agent, replace(TINY, game="Qbert"), 2, epsilon=0.2, seed=seed, device=torch.device("cpu"))

    (first, recordings), (second, again) = scores(0), scores(0)
    assert first == second and recordings == again
    assert scores(1)[1] != recordings
    assert [recording.score for recording in recordings] == first["scores"]


def decode(path):
    with av.open(str(path)) as container:
        (stream,) = container.streams
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return stream, frames


def test_watch_makes_a_video_of_the_episode(finished, capsys, tmp_path):
    path = tmp_path / "out.mp4"
    assert run_command("watch", [str(finished.path), "--video", str(path), "--seed", "3", "--seconds", "5"]) == 0
    out = capsys.readouterr().out
    stream, frames = decode(path)
    assert stream.codec_context.name == "h264" and stream.average_rate == 60 and stream.pix_fmt == "yuv420p"
    assert frames[0].shape == (630, 480, 3) and len(frames) == 300
    assert len({frame.tobytes() for frame in frames[200:300]}) > 40  # it moves, at 60 frames a second
    assert "Pong, machado: score -" in out
    # The same episode, as evaluation plays it.
    _, (recording,) = score_agent(
        load_agent(finished, torch.device("cpu"))[0],
        TINY,
        1,
        epsilon=0.001,
        seed=command_seed(3),
        device=torch.device("cpu"),
    )
    assert "so far, 5 s of play" in out
    shown = np.stack([pixels for pixels, _ in islice(render(recording), 3)])
    assert np.abs(frames[2][1::3, 1::3].astype(int) - shown[2]).mean() < 8  # but for compression


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("game, protocol", [("Breakout", MACHADO), ("SpaceInvaders", NATURE), ("Seaquest", ATARI100K)])
def test_a_recording_renders_the_very_episode(game, protocol, before):
    """Score, length and picture of the episode as the agent saw it, from its seed and actions alone.

    The episodes `before` it were played since the same seeding.
    """
    games = make_atari(game, 1, protocol, reseed_after=None)
    step, scores, generator = games.reset(4), Scores(1), torch.Generator().manual_seed(0)
    earlier = []
    while not ((ended := scores.add(step)) and scores.episodes > before):
        if ended:
            earlier.append(Recording.of(game, protocol, games.played(0)).pack())
        step = games.step(torch.randint(games.num_actions, (1,), generator=generator))
    recording = Recording.of(game, protocol, games.played(0))
    assert len(earlier) == before
    assert len(recording.actions) - recording.begin == ended[0].agent_steps
    assert recording.score == ended[0].score and (recording.begin > 0) == (before > 0)
    assert Recording.unpack(recording.pack(), earlier.pop if earlier else None) == recording
    assert len(recording.pack()) < 1_000
    frames, rewards = zip(*render(recording), strict=True)
    assert sum(rewards) == recording.score
    steps = ended[0].agent_steps
    assert 4 * steps - 3 <= len(frames) - 1 <= 4 * steps
    points = [(t, reward) for t in range(steps) if (reward := sum(rewards[4 * t + 1 : 4 * t + 5]))]
    assert points == list(recording.points)
    assert frames[0].shape == (210, 160, 3) and frames[0].std(axis=2).any()  # in colour
    games.close()


def test_a_score_that_does_not_come_back_is_an_error(tmp_path):
    recording = Recording("Pong", replace(MACHADO, max_frames=40), 0, 0, bytes(10), (), score=5.0)
    with pytest.raises(ValueError, match=r"scored 0\.0, not 5\.0"):
        video_of(recording, tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


def test_a_film_may_have_moments_without_sound(tmp_path):
    frame = np.zeros((32, 32, 3), np.uint8)
    moments = [(frame, np.full(524, 128 + k % 2, np.uint8) if k < 60 else SILENCE) for k in range(80)]
    assert write_film(tmp_path / "film.mp4", moments, 60, 31_440) == 80
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert len(film.streams.audio) == len(film.streams.video) == 1


def test_how_long_it_takes_is_said_when_it_is_known(tmp_path):
    run, console = Run.create(tmp_path, preset("dqn"), "r"), Console(file=io.StringIO(), width=200)
    with Log(run, 200_000_000, NoMirror(), console) as log:
        for agent_steps in (10_000, 20_000, 30_000):  # it learns from the 20,000th on
            log.said = -100.0
            log.log({}, agent_steps)
    first, second, third = console.file.getvalue().splitlines()
    assert "learning begins at 80_000 frames" in first and "min left" not in first + second and "min left" in third


def test_a_video_that_fails_leaves_nothing(tmp_path):
    def frames():
        yield np.zeros((10, 10, 3), np.uint8)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        write_video(tmp_path / "x.mp4", frames())
    assert not list(tmp_path.iterdir())


def test_a_screen_of_odd_sides_is_filmed(tmp_path):
    assert write_video(tmp_path / "x.mp4", iter([np.zeros((41, 45, 3), np.uint8)] * 3)) == 3
    with av.open(str(tmp_path / "x.mp4")) as film:
        assert (film.streams.video[0].height, film.streams.video[0].width) == (124, 136)


def begun_on_catch(runs, *more):
    """A training in a process of its own that has finished an episode."""
    command = [
        sys.executable, *"-m experiments.train demo --wandb off --name r --game probe/catch".split(),
        *"--network.torso mlp --network.hidden 16 --num-envs 2 --rollout.minibatches 2".split(), "--runs", str(runs),
        *more,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # these tests may run under nohup
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (runs / "r/episodes.jsonl").exists() and time.monotonic() < until:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    process = begun_on_catch(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert f"highscore resume {tmp_path / 'r'}" in out.split("Stopped and saved")[1]
    _, state = Run.open(tmp_path / "r").load_checkpoint()
    assert state["frames"] > 0 and not state["finished"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_what_clusters_send_saves_too(tmp_path, number):
    left = iter(range(50))
    stop = lambda: next(left, None) is None and os.kill(os.getpid(), number)
    options = Train(small("dqn", "probe/catch"), device="cpu", wandb="off", runs=tmp_path, name="r")
    run, stopped_by = run_training(options, quiet(), stop)
    assert stopped_by == number and not run.load_checkpoint()[1]["finished"]


def test_a_training_outlasts_whoever_reads_what_it_prints(tmp_path):
    process = begun_on_catch(tmp_path, "--frames", "5000", "--checkpoint-period", "1000", "--evaluation.period", "1000")
    process.stdout.close()  # as `| head` does, and a connection that is lost
    assert process.wait(120) == 0, process.stderr.read()
    process.stderr.close()
    _, state = Run.open(tmp_path / "r").load_checkpoint()
    assert state["finished"] and state["frames"] >= 5_000


def test_a_signal_that_comes_too_late_stops_nothing(finished, tmp_path):
    begun = Run.create(tmp_path / "my runs [old]", TINY, "r")
    for run, words, status in ((finished, "Done.", 0), (begun, f"resume '{begun.path}'", 143)):
        console = Console(file=io.StringIO(), width=400)
        assert say_what_next(console, run, signal.SIGTERM) == status
        assert words in console.file.getvalue()


def test_what_cannot_be_kept_is_not_played(finished, tmp_path, capsys):
    """A file where a folder should be stands for a disk that cannot be written to."""
    path = Path(shutil.copytree(finished.path, tmp_path / "r"))
    shutil.rmtree(path / "evaluations")
    (path / "evaluations").write_text("")
    assert run_command("evaluate", [str(path), "--episodes", "1000"]) == 2
    assert "File exists" in capsys.readouterr().err


def test_a_damaged_evaluation_does_not_end_a_training(finished, tmp_path):
    run = Run.open(Path(shutil.copytree(finished.path, tmp_path / "r")))
    for path in (run.path / "evaluations").glob("*.json"):
        path.write_text('{"mean": ')
    agent = build_agent(TINY, (4, 84, 84), 6, torch.device("cpu"))
    assert keep_best(run, agent, {"frames": 99_999, "agent_steps": 9_999_999, "mean": -22.0})


def test_training_goes_on_from_the_weights_of_another_run(finished):
    agent = build_agent(TINY, (4, 84, 84), 6, torch.device("cpu"))
    saved, _ = finished.load_checkpoint()
    weights = begin_with(agent, finished)
    assert len(weights["tensors_sha256"]) == 64 and weights["agent_steps"] == 2_600
    for prefix, network in (("online", agent.online), ("target", agent.target)):
        assert all(torch.equal(x, saved[f"online.{name}"]) for name, x in network.state_dict().items()), prefix
    other = build_agent(
        replace(TINY, network=replace(TINY.network, head="dueling")), (4, 84, 84), 6, torch.device("cpu")
    )
    with pytest.raises(RunError, match="do not fit this network"):
        begin_with(other, finished)


def test_watching_does_not_change_training(tmp_path):
    """Evaluations draw their own random numbers, and the network's noise is drawn as if there were none."""

    def tensors(period, name):
        x = small("rainbow", "probe/catch")
        x = replace(x, evaluation=replace(x.evaluation, period=period))
        return run_whole(x, tmp_path, name).load_checkpoint()[0]

    often, never = tensors(50, "a"), tensors(1_000, "b")
    assert all(torch.equal(x, never[name]) for name, x in often.items())


@pytest.mark.parametrize("preset", ["dqn", "ppo"])
def test_a_profile_is_a_trace_with_an_update_in_it(tmp_path, preset, capsys, monkeypatch):
    monkeypatch.setattr(trainer.Trainer, "evaluate", lambda self: setattr(self, "evaluation_due", False))
    x = replace(small(preset), frames=640)
    options = Train(x, wandb="off", runs=tmp_path, device="cpu", profile=True)
    run, _ = run_training(options, Console(width=200))
    assert "a trace of" in capsys.readouterr().out
    events = json.loads((run.path / "trace.json").read_text())["traceEvents"]
    names = {event["name"] for event in events if event.get("ph") == "X"}
    assert "aten::convolution_backward" in names and any(name.startswith("Optimiser.step") for name in names)


def test_a_training_does_not_wait_for_torch_to_import_its_compiler(tmp_path):
    code = "import sys; from experiments.cli import run_command\n"
    code += "run_command('train', sys.argv[1:]); print('torch._dynamo' in sys.modules)"
    line = "dqn --game probe/catch --network.torso mlp --frames 600 --num-envs 2 --replay.capacity 500 --wandb off"
    line += f" --replay.learn-start 100 --device cpu --runs {tmp_path}"
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("\nFalse"), done.stderr


def test_a_training_says_at_its_start_what_was_changed_and_what_of_that_does_nothing(tmp_path):
    x, console = small("dqn", "probe/catch"), Console(file=io.StringIO(), width=10_000)
    x = replace(x, network=replace(x.network, memory_bias=2.0))
    run_training(Train(x, device="cpu", wandb="off", runs=tmp_path, name="r"), console, lambda: True)
    said = console.file.getvalue()
    assert "changed: " in said and "network.memory_bias 1.0 to 2.0" in said
    assert "WITHOUT EFFECT: network.memory_size (it is for --network.memory lstm, gru, gtrxl or dnc)" in said
    assert "network.memory_bias (it is for" in said
