"""Distributions of the return and Munchausen: hand and rlax fixtures, and the properties that the papers prove."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.c51 import C51
from agents.dqn import DQN
from agents.iqn import IQN
from agents.munchausen import Munchausen, MunchausenIQN
from agents.qrdqn import QRDQN
from agents.returns import (
    categorical_projection,
    munchausen_term,
    quantile_huber,
    scaled_log_policy,
    soft_value,
)  # fmt: skip
from agents.sequence import Sequence
from envs.timestep import TimeStep
from tests.test_returns import hand, rlax, tensor


def two_steps(batch, reward=0.0, terminal=False, actions=2, seed=0):
    """Observations are the numbers of rows in a table: 0 to batch - 1 here, batch to 2 * batch - 1 there."""
    generator = torch.Generator().manual_seed(seed)
    flags = torch.zeros(2, batch, dtype=torch.bool)
    rewards = torch.zeros(2, batch, dtype=torch.float64)
    rewards[1] = torch.as_tensor(reward)
    ends = flags.clone()
    ends[1] = terminal
    step = TimeStep(torch.arange(2 * batch).view(2, batch), flags.long(), rewards, flags, ends, ends)
    action = torch.randint(actions, (2, batch), generator=generator)
    return Sequence(step, action, (), (), torch.ones(batch), torch.arange(batch))


def table(*outputs):
    """A network that looks its output up."""
    return lambda step, state: (
        tuple(x[step.obs] for x in outputs) if len(outputs) > 1 else outputs[0][step.obs],
        state,
    )


@pytest.mark.parametrize("fixture", rlax("categorical_l2_project"))
def test_projection_equals_rlax(fixture):
    x = fixture["inputs"]
    projected = categorical_projection(tensor(x["z_p"]), tensor(x["probs"]), tensor(x["z_q"]))
    assert projected.tolist() == pytest.approx(fixture["output"], abs=1e-6)


@pytest.mark.parametrize("fixture", hand("c51_projection"))
def test_projection_equals_the_hand_fixtures(fixture):
    x = fixture["inputs"]
    support = torch.linspace(x["vmin"], x["vmax"], x["atoms"], dtype=torch.float64)
    projected = categorical_projection(x["r"] + x["discount"] * support, tensor(x["p"]), support)
    assert projected.tolist() == pytest.approx(fixture["output"]["m"])


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=9), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_projection_keeps_the_mass_and_inside_the_support_the_mean(z, discount):
    z = discount * tensor([*z, 0.4, -10.0, 10.0])  # some fall exactly on atoms
    p = torch.ones_like(z) / len(z)
    support = torch.linspace(-10, 10, 51, dtype=torch.float64)
    projected = categorical_projection(z, p, support)
    assert projected.sum().item() == pytest.approx(1)
    assert (projected @ support).item() == pytest.approx((p @ z.clamp(-10, 10)).item())


@pytest.mark.parametrize("double", [False, True])
def test_c51_equals_rlax(double):
    (fixture,) = rlax("categorical_double_q_learning" if double else "categorical_q_learning")
    x = fixture["inputs"]
    here, there = tensor(x["q_logits_tm1"]), tensor(x["q_logits_t"])
    other = there if not double else there.flip(0)  # the selector of the fixture prefers action 0
    seq = two_steps(1, x["r_t"])._replace(action=torch.full((2, 1), x["a_tm1"]))
    algorithm = C51(discount=x["discount_t"], atoms=5, v_max=1.0, double=double)
    loss, _, _ = algorithm.loss(table(torch.stack([here, other])), table(torch.stack([here, there])), seq)
    assert loss.item() == pytest.approx(fixture["output"], abs=1e-5)


def test_a_terminal_c51_target_is_the_reward_for_sure():
    logits = torch.randn(2, 2, 51, dtype=torch.float64)
    seq = two_steps(1, 1.0, terminal=True)
    loss, priority, _ = C51().loss(table(logits), table(torch.randn_like(logits)), seq)
    log_p = logits[0, seq.action[0, 0]].log_softmax(-1)
    support = torch.linspace(-10, 10, 51, dtype=torch.float64)
    below = int((1.0 - -10) / 0.4)  # 1 lies between two atoms
    share = (support[below + 1] - 1) / 0.4
    assert loss.item() == pytest.approx(-(share * log_p[below] + (1 - share) * log_p[below + 1]).item())
    entropy = -(share * share.log() + (1 - share) * (1 - share).log())
    assert priority.item() == pytest.approx((loss - entropy).item())  # Kullback-Leibler
    same, priority, _ = C51(priority="loss").loss(table(logits), table(torch.randn_like(logits)), seq)
    assert priority.item() == pytest.approx(same.item(), rel=1e-12) == loss.item()


def test_a_c51_that_is_right_has_no_divergence():
    logits = torch.zeros(2, 1, 51, dtype=torch.float64)
    logits[0, 0, 25] = 1e3  # all mass at 0
    seq = two_steps(1, 0.0, terminal=True, actions=1)
    assert C51().loss(table(logits), table(logits), seq)[1].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("fixture", rlax("quantile_q_learning"))
def test_qrdqn_equals_rlax(fixture):
    x = fixture["inputs"]
    here, there = tensor(x["dist_q_tm1"]).T, tensor(x["dist_q_t"]).T  # [A, N]
    seq = two_steps(1, x["r_t"])._replace(action=torch.full((2, 1), x["a_tm1"]))
    network = table(torch.stack([here, there]))
    algorithm = QRDQN(discount=x["discount_t"], quantiles=3, kappa=x["huber_param"])
    assert algorithm.loss(network, network, seq)[0].item() == pytest.approx(fixture["output"], abs=1e-5)


def test_quantile_huber_equals_both_fixtures():
    (fixture,) = hand("quantile_huber")
    x = fixture["inputs"]
    loss = quantile_huber(tensor(x["theta"]), tensor(x["tau"]), tensor(x["target"]), x["kappa"])
    assert loss.item() == pytest.approx(fixture["output"])
    (fixture,) = rlax("quantile_regression_loss")
    x = fixture["inputs"]
    loss = quantile_huber(tensor(x["dist_src"]), tensor(x["tau_src"]), tensor(x["dist_target"]), x["huber_param"])
    assert loss.item() == pytest.approx(fixture["output"], abs=1e-6)


@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
def test_quantile_huber_and_its_gradient_are_those_of_the_plain_equation(kappa):
    def plain(theta):
        error = target[..., None, :] - theta[..., :, None]
        size = torch.where(error.abs() <= kappa, error**2 / 2, kappa * (error.abs() - kappa / 2))
        size = size / kappa if kappa else error.abs()
        return ((tau[..., :, None] - (error < 0).double()).abs() * size).mean(-1).sum(-1)

    theta, target, weight = torch.randn(3, 5, 4, 6, dtype=torch.float64).unbind()
    tau, theta = torch.rand(5, 4, 6, dtype=torch.float64), theta.requires_grad_()
    target = torch.cat([target, theta.detach()[..., :1]], -1)  # an error of 0, too
    fast, slow = quantile_huber(theta, tau, target, kappa), plain(theta)
    assert torch.allclose(fast, slow)
    gradients = [torch.autograd.grad((weight[..., 0] * loss).sum(), theta)[0] for loss in (fast, slow)]
    assert torch.allclose(*gradients) and gradients[0].abs().min() > 0


def test_quantile_regression_finds_the_quantiles_of_a_law():
    """Of an exponential law: -ln(1 - tau); and they come out sorted."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    tau = (torch.arange(8) + 0.5) / 8
    optimiser = torch.optim.Adam([theta], 0.02)
    for _ in range(1_500):
        samples = -torch.log(1 - torch.rand(512, generator=generator, dtype=torch.float64))
        optimiser.zero_grad()
        quantile_huber(theta, tau, samples, kappa=0.0).backward()
        optimiser.step()
    assert torch.allclose(theta.detach(), -torch.log(1 - tau).double(), atol=0.12)
    assert (theta.diff() > 0).all()


@pytest.mark.parametrize("double", [False, True])
def test_iqn_with_the_fractions_of_qrdqn_is_qrdqn(double):
    theta, other = torch.randn(2, 12, 2, 8, dtype=torch.float64)  # of 12 rows
    tau = ((torch.arange(8) + 0.5) / 8).expand(12, 8)
    seq = two_steps(6, torch.linspace(-1, 1, 6))
    known = QRDQN(quantiles=8, double=double).loss(table(theta), table(other), seq)
    found = IQN(samples=8, double=double).loss(table(theta.mT, tau), table(other.mT, tau), seq)
    for a, b in zip(known[:2], found[:2], strict=True):
        torch.testing.assert_close(a, b)


def test_iqn_whose_quantiles_are_equal_learns_the_values_of_dqn():
    """Fractions then do not matter: the errors are DQN's, and the loss is half their Huber loss (tau averages 1/2)."""
    q, target = torch.randn(2, 12, 2, dtype=torch.float64)
    tau = torch.cat([torch.rand(12, 4), torch.zeros(12, 4)], 1)
    tau[:, 4:] = 1 - tau[:, :4]
    seq = two_steps(6, torch.linspace(-1, 1, 6))
    loss, _, _ = DQN(error_loss="huber").loss(table(q), table(target), seq)
    alike = [x[:, None].expand(12, 8, 2) for x in (q, target)]
    found, _, _ = IQN(samples=8).loss(table(alike[0], tau), table(alike[1], tau), seq)
    torch.testing.assert_close(found, loss * 8 / 2)


SHAPES = {DQN(): (12, 2), C51(atoms=5): (12, 2, 5), QRDQN(quantiles=5): (12, 2, 5), IQN(samples=5): (12, 5, 2)}


@pytest.mark.parametrize("algorithm", SHAPES, ids=lambda x: type(x).__name__)
def test_double_with_equal_networks_is_single_and_with_others_is_not(algorithm):
    torch.manual_seed(0)
    tau = [torch.rand(12, 5)] if isinstance(algorithm, IQN) else []
    one, other = (table(torch.randn(SHAPES[algorithm], dtype=torch.float64), *tau) for _ in range(2))
    seq = two_steps(6, torch.linspace(-1, 1, 6))

    def losses(double, target):
        return replace(algorithm, double=double).loss(one, target, seq)[0]

    assert torch.equal(losses(False, one), losses(True, one))
    assert not torch.equal(losses(False, other), losses(True, other))


@pytest.mark.parametrize("fixture", hand("munchausen_dqn_target"))
def test_munchausen_equals_the_hand_fixtures(fixture):
    x, out = fixture["inputs"], fixture["output"]
    here, there = tensor(x["q_target_s"]), tensor(x["q_target_next"])
    action = torch.tensor(x["action"])
    assert munchausen_term(here, action, x["tau"], x["alpha"], x["clip"]).item() == pytest.approx(
        out["munchausen_term"]
    )
    assert soft_value(there, x["tau"]).item() == pytest.approx(out["soft_value"])
    seq = two_steps(1, x["reward"])._replace(action=action.expand(2, 1))
    algorithm = Munchausen(discount=x["gamma"], scaling=x["alpha"], temperature=x["tau"], clip=x["clip"])
    target = table(torch.stack([here, there]))
    online = table(torch.zeros(2, 3, dtype=torch.float64))
    _, priority, _ = algorithm.loss(online, target, seq)
    assert priority.item() == pytest.approx(abs(out["target"]))
    fractions = torch.full((2, 4), 0.5)
    alike = [torch.stack([here, there])[:, None].expand(2, 4, 3), fractions]
    many = MunchausenIQN(discount=x["gamma"], scaling=x["alpha"], temperature=x["tau"], clip=x["clip"], samples=4)
    _, size, _ = many.loss(table(torch.zeros(2, 4, 3, dtype=torch.float64), fractions), table(*alike), seq)
    assert size.item() == pytest.approx(4 * abs(out["target"]))  # equal quantiles: the target of M-DQN, N times


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=5), st.sampled_from([0.01, 0.03, 1.0]))
def test_soft_value_is_that_of_the_policy(q, temperature):
    q = tensor(q)
    log_pi = scaled_log_policy(q, temperature) / temperature
    pi = log_pi.exp()
    assert pi.sum().item() == pytest.approx(1)
    assert soft_value(q, temperature).item() == pytest.approx((pi * (q - temperature * log_pi)).sum().item())
    assert (scaled_log_policy(q, temperature) <= 1e-9).all()


def test_the_policy_of_large_values_is_exact_in_32_bits():
    """Its probabilities sum to 1, or an error as large as the values themselves would be in the target."""
    q = 1_000 + torch.randn(100, 8, dtype=torch.float64)
    log_pi = scaled_log_policy(q.float(), 0.03)
    torch.testing.assert_close((log_pi / 0.03).exp().sum(-1), torch.ones(100), rtol=1e-6, atol=0)
    torch.testing.assert_close(log_pi.double(), scaled_log_policy(q.float().double(), 0.03), rtol=0, atol=3e-4)


def test_munchausen_without_its_term_and_entropy_is_dqn():
    q, target = torch.randn(2, 12, 3, dtype=torch.float64)
    seq = two_steps(6, torch.linspace(-1, 1, 6), actions=3)
    known = DQN(error_loss="huber").loss(table(q), table(target), seq)
    found = Munchausen(scaling=0.0, temperature=1e-6).loss(table(q), table(target), seq)
    torch.testing.assert_close(known[0], found[0], atol=1e-5, rtol=1e-5)
    tau = torch.rand(12, 5)
    values, others = torch.randn(2, 12, 5, 3, dtype=torch.float64)
    known = IQN(samples=5).loss(table(values, tau), table(others, tau), seq)
    found = MunchausenIQN(samples=5, scaling=0.0, temperature=1e-6).loss(table(values, tau), table(others, tau), seq)
    torch.testing.assert_close(known[0], found[0], atol=1e-5, rtol=1e-5)


def test_actions_are_those_of_the_largest_mean():
    # The most, the least, the middle or the first quantile would each choose another somewhere.
    theta = torch.tensor([[[0.0, 0, 9], [2, 2, 2]], [[5, 0, 0], [2, 2, 2]]])  # [N, A, quantiles]
    tau = torch.rand(2, 3)
    for algorithm, output in ((QRDQN(), theta), (IQN(), (theta.mT, tau)), (MunchausenIQN(), (theta.mT, tau))):
        assert algorithm.choose(output, 0.0)[0].tolist() == [0, 1]
    probability = torch.tensor([[[0.1, 0.5, 0.4], [0.4, 0.0, 0.6]]])
    assert C51(atoms=3, v_max=2.0).choose(probability.log(), 0.0)[0].tolist() == [0]
