"""What is recorded once and replayed does what Python would have done, time and again; CUDA graphs are played here."""

import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents.agent import Agent
from agents.captured import MOST, WARM_UP, Captured
from agents.dqn import DQN
from agents.explore import Ladder
from agents.optimiser import Adam
from agents.reset import Reset
from envs.probe import make_probe
from experiments.build import build
from experiments.build_network import build_network
from experiments.config import NetworkConfig
from experiments.presets import PRESETS
from experiments.speed import speed_of
from tests.test_agent import two_steps
from tests.test_players import on_policy, small

CPU = torch.device("cpu")
# To know the values of tensors, as these must, Python waits for a GPU; none of it can be recorded.
LOOKS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
}


class Graph(TorchDispatchMode):
    """Stands for a CUDA graph: repeats every operation, on the very tensors that it had when it was recorded.

    To record is not to do: what changes meanwhile, the random state too, is changed back.
    """

    def __enter__(self):
        self.operations, self.before, self.random = [], [], torch.get_rng_state()
        return super().__enter__()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        assert operation not in LOOKS, f"{operation} looks at values"
        given = {argument.name: x for argument, x in zip(operation._schema.arguments, args, strict=False)}
        given |= kwargs or {}
        for argument in operation._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.before += [(x, x.clone()) for x in tree_leaves(given.get(argument.name))]
        result = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def __exit__(self, *error):
        super().__exit__(*error)
        for x, before in reversed(self.before):
            x.copy_(before)
        torch.set_rng_state(self.random)

    @torch.no_grad()
    def replay(self):
        for operation, args, kwargs, result in self.operations:
            for old, new in zip(tree_leaves(result), tree_leaves(operation(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Stream:
    def wait_stream(self, other):
        pass


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    @contextmanager
    def record(graph, stream, capture_error_mode):
        with graph:
            yield

    def clip_gradients(parameters, bound):  # as on a GPU; on a CPU it looks whether there is anything to do
        return torch.nn.utils.clip_grad_norm_(parameters, bound)

    monkeypatch.setattr("agents.agent.clip_gradients", clip_gradients)
    radam = sys.modules["torch.optim.radam"]  # torch.optim hides it
    monkeypatch.setattr(radam, "_get_capturable_supported_devices", lambda **how: ["cpu"])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())


def rollouts(name):
    """A few rollouts of a quarter of a preset's games, in two minibatches."""
    x = PRESETS[name]
    num_envs, rollout = x.num_envs // 4, replace(x.rollout, minibatches=2)
    return on_policy(name, rollout=rollout, num_envs=num_envs, frames=4 * x.algorithm.unroll * num_envs)


def uniform(name):
    x = small(name, frames=500)
    replay = replace(x.replay, priority_exponent=0.0, initial_priority="largest", learn_period=2)
    return replace(x, replay=replay, num_envs=8, explore=Ladder(8), target_period=30)


def follow(device):
    """What is captured has the values of its arguments, and of what it works with, at every call."""
    weight, mode = torch.ones(3, device=device), ["doubled"]
    call = Captured(lambda x: (x * weight * (2 if mode == ["doubled"] else 1),), kind=lambda: mode[0], copies=True)
    for size in (2, 5, 2):
        for i in range(2 * WARM_UP):
            x = torch.full((size, 3), float(i), device=device)
            weight.fill_(i + 1)
            assert call(x)[0].tolist() == [[2.0 * i * (i + 1)] * 3] * size
    assert len(call.recorded) == 2
    mode[0] = "plain"
    assert call(x)[0].tolist() == [[1.0 * i * (i + 1)] * 3] * size
    kept = call(x)[0]
    call(x + 1)
    assert kept.tolist() == [[1.0 * i * (i + 1)] * 3] * size
    call.forget()
    weight = torch.zeros(3, device=device)
    assert not call.recorded and call(x)[0].sum() == 0


def test_what_is_captured_follows_its_arguments():
    follow("cpu")


def test_no_more_shapes_are_recorded_than_there_is_room_for():
    call = Captured(lambda x: (x + 1,))
    for size in [*range(1, MOST + 4)] * (2 * WARM_UP):
        assert call(torch.zeros(size))[0].tolist() == [1.0] * size
    assert len(call.recorded) == MOST


KINDS = {
    "dqn": lambda: small("dqn", frames=440),
    "batches at once": lambda: uniform("dqn"),
    "augmented": lambda: replace(uniform("dqn"), algorithm=replace(PRESETS["dqn"].algorithm, shift=4, intensity=0.05)),
    "features that are foretold, horizons, resets": lambda: begun_anew(),
    "another optimiser": lambda: small("dqn-nature", frames=440),
    "16 bits": lambda: small("dqn", precision="bf16", frames=440),
    "distributions, noise, three steps": lambda: small("rainbow", frames=440),
    "quantiles at random": lambda: small("m-iqn", frames=440),
    "ppo": lambda: rollouts("ppo"),
    "impala": lambda: rollouts("impala"),
    "pqn": lambda: rollouts("pqn"),
    "residual, with spectral norms": lambda: replace(
        small("btr"),
        network=replace(PRESETS["btr"].network, torso="impala-small", hidden=16, pooling=2, width=1, blocks=1),
        frames=400,
    ),
}


def begun_anew():
    x = small("bbf", frames=600, reset=Reset(period=300, keep=0.5))
    return replace(x, algorithm=replace(x.algorithm, first_n_steps=4, horizon_updates=8))


def trained(x, capture, monkeypatch):
    """The agent after a training, and every loss."""
    with monkeypatch.context() as patch:
        patch.setattr("experiments.build.make_fast", lambda agent, x, device: agent.capture() if capture else None)
        patch.setattr("experiments.build.captures", lambda x, device: capture)
        setup = build(replace(x, distributed="none"), CPU)
    losses = [m.metrics["losses/loss"].item() for m in setup.moments(x, None) if m.metrics]
    setup.games.close()
    return setup.agent, losses


@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_agent_is_the_same_agent(kind, monkeypatch):
    x = KINDS[kind]()
    plain, losses = trained(x, False, monkeypatch)
    fast, same_losses = trained(x, True, monkeypatch)
    assert fast._captured.recorded and len(fast._act.recorded) == 1 and plain._captured is None
    assert fast.updates == plain.updates > 2 * WARM_UP
    assert (fast.lookahead > 1) == (kind in ("batches at once", "augmented", "ppo", "pqn"))
    assert losses == pytest.approx(same_losses, rel=1e-3)
    atol = 3e-4 if kind == "pqn" else 1e-5  # RAdam's rectification is in 32 bits, not in 64
    for (name, one), other in zip(fast.online.named_parameters(), plain.online.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


def test_limits_are_of_updates_with_whole_minibatches(monkeypatch):
    learn, learned = Agent.learn, set()

    def watched(self, seq, count=1):
        learned.add((len(seq.weight), count))
        return learn(self, seq, count)

    monkeypatch.setattr(Agent, "learn", watched)
    monkeypatch.setattr("experiments.build.captures", lambda x, device: True)
    x = rollouts("ppo")
    speed_of(x, CPU, emulate=1e-3)
    assert learned == {(x.num_envs * x.algorithm.unroll, 2)}


def test_games_that_wait_for_what_a_gpu_chose_play_the_same(monkeypatch):
    """They start when it is there, in `recv`; logs and counts are those of games that started at once."""
    waited = []

    class Chosen:
        device = torch.device("cuda")

        def __init__(self, action, there=False):
            self.action, self.there = action, there

        def query(self):
            return self.there

        def synchronize(self):
            waited.append(self.action)

    monkeypatch.setattr("envs.games.copy_to_host", lambda chosen: (chosen.action, chosen))
    one, other = make_probe("catch", 3), make_probe("catch", 3)
    assert_same(one.reset(0), other.reset(0))
    for t in range(40):
        action = torch.randint(one.num_actions, (3,), generator=torch.Generator().manual_seed(t))
        one.send(action)
        other.send(Chosen(action, there=t % 2 == 1))
        assert one.agent_steps == other.agent_steps
        other.start()  # begins with what is there
        assert (other._coming is None) == (t % 2 == 1) and len(waited) == (t + 1) // 2
        other.start()
        assert_same(one.recv(), other.recv())
        assert_same(one.on_host, other.on_host)
        assert len(waited) == t // 2 + 1 and other._coming is None  # only what was not
    assert [log.actions for log in one.logs] == [log.actions for log in other.logs]
    other.send(Chosen(torch.full((3,), 99)))
    with pytest.raises(ValueError, match="actions must be"):
        other.recv()
    one.close(), other.close()


def assert_same(one, other):
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_captured_agent_acts_without_noise_while_it_is_evaluated():
    agent = Agent(build_network(NetworkConfig("mlp", hidden=8, noise=0.5), (1, 2, 2), 3), DQN(), Adam(), 9)
    agent.algorithm = type("Shows", (), {"choose": staticmethod(lambda output, epsilon: (output, ()))})()
    agent.capture()
    step = two_steps(4).step._replace()
    step = type(step)(*(x[0] for x in step))
    for _ in range(2 * WARM_UP):
        agent.act(step, (), 0.0)
    with agent.evaluating():
        one, other = (agent.act(step, (), 0.0)[0] for _ in range(2))
    assert torch.equal(one, other) and not torch.equal(agent.act(step, (), 0.0)[0], agent.act(step, (), 0.0)[0])


def test_a_captured_agent_that_is_loaded_goes_on_from_there():
    def make():
        torch.manual_seed(0)
        agent = Agent(build_network(NetworkConfig("mlp", hidden=8), (1, 2, 2), 3), DQN(), Adam(1e-2), 100)
        agent.capture()
        return agent

    one, other, batches = make(), make(), [two_steps(4) for _ in range(12)]
    for i, seq in enumerate(batches):
        if i == 6:
            other.load_tensors({name: x.clone() for name, x in one.tensors().items()})
        one.learn(seq)
        other.learn(seq if i >= 6 else batches[0])
    for name, x in one.tensors().items():
        torch.testing.assert_close(x, other.tensors()[name], msg=name)


def test_batches_at_once_need_an_optimiser_that_can_be_captured(monkeypatch):
    x = uniform("dqn-nature")
    plain, losses = trained(x, False, monkeypatch)
    fast, same = trained(x, True, monkeypatch)
    assert fast.lookahead == 1 and fast.updates == plain.updates
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(same), rtol=1e-3, atol=1e-6)
