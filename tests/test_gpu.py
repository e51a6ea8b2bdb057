"""On a GPU everything is as on the CPU, and nobody waits for it but to know the actions."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.agent import Agent
from agents.captured import WARM_UP, Captured
from agents.optimiser import Adam, Optimiser, RAdam
from agents.replay import Replay, ReplayConfig
from agents.rollout import Rollout
from agents.sequence import tree_map
from envs.atari import make_atari
from envs.protocols import MACHADO
from envs.timestep import TimeStep
from experiments.build import build
from experiments.presets import PRESETS
from networks.memory import Recurrent
from tests.test_captured import follow
from tests.test_players import on_policy, small

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@contextmanager
def nobody_waits():
    """Whoever makes Python wait for the GPU in here fails."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def same(one, other):
    tree_map(lambda a, b: torch.testing.assert_close(a.cpu(), b.cpu(), rtol=0, atol=0), one, other)


def play(games, steps):
    """What was seen and done in so many steps at random."""
    step, generator = games.reset(0), torch.Generator().manual_seed(0)
    for _ in range(steps):
        action = torch.randint(games.num_actions, (games.num_envs,), generator=generator)
        yield step, action
        step = games.step(action)


def test_games_show_the_same():
    short = replace(MACHADO, max_frames=200)
    here, there = (make_atari("Breakout", 4, short, device=device) for device in ("cpu", "cuda"))
    for (one, _), (other, _) in zip(play(here, 150), play(there, 150), strict=True):
        assert other.obs.device.type == "cuda"
        same(one, other)
    here.close(), there.close()


@pytest.mark.parametrize("storage", ["auto", "ram", "compressed", "disk"])
def test_the_replay_gives_the_same_batches_and_nobody_waits(storage):
    config = ReplayConfig(capacity=1_200, learn_start=0, priority_exponent=0.6, storage=storage)
    games = make_atari("Breakout", 4, replace(MACHADO, max_frames=200))
    here, there = Replay(replace(config, storage="auto"), 4, 3), Replay(config, 4, 3)
    for step, action in play(games, 400):
        here.add(step, action)
        there.add(tree_map(lambda x: x.cuda(), step), action.cuda())
    games.close()
    for _ in range(20):
        one = here.sample(32)
        with nobody_waits():
            other = there.sample(32)
        assert other.step.obs.device.type == "cuda"
        same(one, other)
        priority = torch.from_numpy(np.random.default_rng(0).random(32))
        here.update(one.ids, priority)
        there.update(other.ids, priority)


OFF_POLICY = ["dqn", "dqn-nature", "c51", "qrdqn", "rainbow", "m-iqn", "drq", "spr", "bbf"]


def in_two(name):
    """A preset that learns from rollouts, in two minibatches."""
    return on_policy(name, rollout=replace(PRESETS[name].rollout, minibatches=2), frames=40_000)


def trained(x):
    """A setup after all of its training."""
    setup = build(x, torch.device("cuda"))
    try:
        for _ in setup.moments(x, None):
            pass
    finally:
        setup.games.close()
    return setup


@pytest.mark.parametrize("captures", [False, True])
@pytest.mark.parametrize("preset", OFF_POLICY)
def test_nobody_waits_while_it_learns(preset, captures, monkeypatch):
    if not captures:
        monkeypatch.setattr(Agent, "capture", lambda self: None)
    setup = trained(small(preset, distributed="none", frames=800))
    with nobody_waits():
        for _ in range(3):
            setup.agent.learn(setup.experience.sample(8))


@pytest.mark.parametrize("x", [
    *(pytest.param(small(name, distributed="none"), id=name) for name in OFF_POLICY),
    *(pytest.param(in_two(name), id=name) for name in ("pqn", "ppo", "impala")),
    pytest.param(small("dqn", distributed="none", precision="bf16"), id="16 bits"),
])  # fmt: skip
def test_what_is_captured_is_the_same_training(x, monkeypatch):
    captured = trained(x).agent
    monkeypatch.setattr(Agent, "capture", lambda self: None)
    monkeypatch.setattr(Captured, "__call__", lambda self, *args: self.function(*args))
    plain = trained(x).agent
    assert captured.updates == plain.updates > 2 * WARM_UP
    assert captured._captured.recorded and not plain._captured
    for (name, one), other in zip(captured.online.named_parameters(), plain.online.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")
        assert one.std() > 0 or one.numel() == 1


def test_what_is_captured_follows_its_arguments():
    follow("cuda")


def test_random_numbers_of_what_is_captured_differ_from_call_to_call():
    call = Captured(lambda x: (torch.rand_like(x),), copies=True)
    x = torch.zeros(4, device="cuda")
    torch.manual_seed(0)
    drawn = [call(x)[0] for _ in range(3 * WARM_UP)]
    torch.manual_seed(0)
    same(tuple(drawn), tuple(torch.rand_like(x) for _ in drawn))


@pytest.mark.parametrize("settings", [Adam(), RAdam()], ids=lambda x: type(x).__name__)
def test_a_compiled_step_is_the_same_step_where_it_is_captured(settings):
    ours = [torch.nn.Parameter(torch.randn(shape, device="cuda")) for shape in ((300, 400), (7,), ())]
    other = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    fast, plain = Optimiser(settings, ours), Optimiser(settings, other)
    fast.compile()

    def learn(rate, *gradients):
        for p, gradient in zip(ours, gradients, strict=True):
            p.grad = gradient
        fast.step(rate)
        return rate

    call = Captured(learn)
    for i in range(4 * WARM_UP):
        rate, gradients = torch.tensor(1e-3 * (i + 1), device="cuda"), [torch.randn_like(p) for p in ours]
        call(rate, *gradients)
        for p, gradient in zip(other, gradients, strict=True):
            p.grad = gradient
        plain.step(rate)
    assert call.recorded
    # In 32 bits RAdam's rectification changes by half a percent with the last digit of a power.
    torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-3 if isinstance(settings, RAdam) else 1e-6)


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_memory_learns_in_float32_also_where_the_rest_is_in_bf16(memory):
    """By itself torch's autocast gives cuDNN float16, in which small gradients are 0."""
    core = Recurrent(memory, inputs=8, num_actions=0, size=16).cuda()
    step = TimeStep(*(torch.zeros(5, 3, device="cuda") for _ in TimeStep._fields))._replace(
        first=torch.zeros(5, 3, dtype=torch.bool, device="cuda")
    )
    features, state = torch.randn(5, 3, 8, device="cuda"), core.initial_state(3)
    with torch.autocast("cuda", torch.bfloat16):
        output, end = core(features.bfloat16(), step, state)
    assert output.dtype == torch.float32 and all(x.dtype == torch.float32 for x in end)
    (1e-9 * output.sum()).backward()
    assert all((p.grad != 0).any() for p in core.parameters())


@pytest.mark.parametrize("preset", ["dqn", "qrdqn"])
def test_in_the_loop_only_the_actions_are_waited_for(preset):
    x = small(preset, distributed="none")
    replay = replace(x.replay, priority_exponent=0.0, initial_priority="largest")
    setup = build(replace(x, replay=replay), torch.device("cuda"))
    moments = setup.moments(x, None)
    while setup.agent.updates < 4 * WARM_UP:
        next(moments)
    with nobody_waits():  # for the event that says that actions are there, one may
        for _ in range(20):
            next(moments)
    setup.games.close()


def test_nobody_waits_for_minibatches():
    x = on_policy("ppo", frames=4_000)
    setup = build(x, torch.device("cuda"))
    rollout = replace(x.rollout, minibatches=2)
    memory = Rollout(rollout, x.num_envs, x.algorithm.length, x.algorithm.targets)
    step = setup.games.reset(0)
    while len(memory.rows) < x.algorithm.length:
        action, note, _ = setup.agent.act(step, (), 0.0)
        memory.add(step, action, note)
        step = setup.games.step(action)
    setup.games.close()
    with nobody_waits():
        assert len(list(memory.batches())) == 2 * rollout.epochs
