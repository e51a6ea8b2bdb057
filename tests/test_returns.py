"""Returns and targets against numbers worked out by hand, stored reference values, and a slow twin."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agents.returns import clip_reward, hopped, huber, lambda_returns, n_step, pick, q_learning_target

T, F = True, False
DATA = Path(__file__).parent / "data"


def column(*xs):
    return torch.tensor(xs)[:, None]


def hand(name):
    return [f for f in json.loads((DATA / "hand_fixtures.json").read_text())["fixtures"] if f["name"] == name]


def rlax(name):
    return [f for f in json.loads((DATA / "rlax_fixtures.json").read_text())["fixtures"] if f["function"] == name]


def tensor(x) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def test_n_step_stops_at_the_end_of_the_episode():
    # Steps 0 1 2 3; a time limit ends the episode at 2, so step 2 may still be bootstrapped from.
    total, scale, hop = n_step(column(0.0, 1, 2, 4), column(F, F, F, F), column(F, F, T, F), discount=0.5, n=3)
    assert total.flatten().tolist() == [1 + 0.5 * 2, 2, 0]
    assert scale.flatten().tolist() == [0.25, 0.5, 1]
    assert hop.flatten().tolist() == [2, 1, 0]


def test_n_step_does_not_bootstrap_past_a_lost_life():
    # A life lost at step 1 is terminal, though the game goes on.
    total, scale, _ = n_step(column(0.0, 1, 2, 4), column(F, T, F, F), column(F, F, F, F), discount=0.5, n=2)
    assert total.flatten().tolist() == [1, 2 + 0.5 * 4, 4]
    assert scale.flatten().tolist() == [0, 0.25, 0.5]


@pytest.mark.parametrize("name", ["n_step_terminal", "n_step_truncation"])
def test_n_step_equals_the_hand_fixtures(name):
    (fixture,) = hand(name)
    x = fixture["inputs"]
    # The fixture's r[t] is earned by step t; ours is stored on the step that it led to.
    reward = tensor([0, *x["r"]])[:, None]
    ends = torch.tensor([0, *x.get("terminal", x.get("truncated"))], dtype=torch.bool)[:, None]
    terminal = ends if "terminal" in x else torch.zeros_like(ends)
    total, scale, hop = n_step(reward, terminal, ends, x["gamma"], x["n"])
    assert total[0, 0].item() == pytest.approx(fixture["output"]["return"])
    assert scale[0, 0].item() == pytest.approx(fixture["output"]["bootstrap_weight"])
    assert hop[0, 0] == 2  # the final observation


@pytest.mark.parametrize("n", [1, 2, 3])
def test_n_step_equals_rlax(n):
    (fixture,) = [f for f in rlax("n_step_bootstrapped_returns") if f["inputs"]["n"] == n]
    x = fixture["inputs"]
    reward = tensor([0, *x["r_t"]])[:, None]
    terminal = torch.tensor([False, *(d == 0 for d in x["discount_t"])])[:, None]
    value = tensor([0, *x["v_t"]])[:, None]
    total, scale, hop = n_step(reward, terminal, torch.zeros_like(terminal), max(x["discount_t"]), n)
    there = torch.arange(len(hop))[:, None] + hop
    assert (total + scale * value.gather(0, there)).flatten().tolist() == pytest.approx(fixture["output"], abs=1e-6)


episodes = st.lists(
    st.tuples(st.floats(-5, 5, width=32), st.sampled_from(["going", "life", "over", "limit"])), min_size=2, max_size=12
)


@given(episodes, st.integers(1, 5), st.floats(0, 1))
def test_n_step_equals_walking_along_the_episode(rows, n, discount):
    reward = tensor([r for r, _ in rows])[:, None]
    terminal = torch.tensor([kind in ("life", "over") for _, kind in rows])[:, None]
    last = torch.tensor([kind in ("over", "limit") for _, kind in rows])[:, None]
    totals, scales, hops = n_step(reward, terminal, last, discount, n)
    for t in range(len(rows) - 1):
        total, scale, hop = 0.0, 1.0, 0
        while hop < n and t + hop < len(rows) - 1 and not last[t + hop]:
            hop += 1
            total += scale * reward[t + hop].item()
            scale *= discount * (not terminal[t + hop])
        assert (totals[t].item(), scales[t].item(), hops[t].item()) == pytest.approx((total, scale, hop), abs=1e-5)


def test_lambda_returns_equal_rlax():
    (fixture,) = rlax("lambda_returns")
    x = fixture["inputs"]
    terminal = torch.tensor([False, *(d == 0 for d in x["discount_t"])])[:, None]
    got = lambda_returns(
        tensor([0, *x["r_t"]])[:, None], terminal, torch.zeros_like(terminal), tensor([0, *x["v_t"]])[:, None],
        max(x["discount_t"]), x["lambda_"],
    )  # fmt: skip
    assert got.flatten().tolist() == pytest.approx(fixture["output"], abs=1e-6)


@given(episodes, st.floats(0, 1))
def test_lambda_zero_is_one_step_and_lambda_one_is_n_step_to_the_end(rows, discount):
    reward, value = (
        tensor([r for r, _ in rows])[:, None],
        torch.linspace(-1, 1, len(rows), dtype=torch.float64)[:, None],
    )
    terminal = torch.tensor([kind in ("life", "over") for _, kind in rows])[:, None]
    last = torch.tensor([kind in ("over", "limit") for _, kind in rows])[:, None]
    live = ~last[:-1]
    for trace, n in ((0.0, 1), (1.0, len(rows))):
        total, scale, hop = n_step(reward, terminal, last, discount, n)
        goal = total + scale * value.gather(0, torch.arange(len(hop))[:, None] + hop)
        got = lambda_returns(reward, terminal, last, value, discount, trace)
        torch.testing.assert_close(got[live], goal[live])


def test_q_learning_equals_rlax():
    (fixture,) = rlax("q_learning")
    x = fixture["inputs"]
    q = tensor(x["q_t"])
    goal = q_learning_target(tensor(x["r_t"]), tensor(x["discount_t"]), q, q)
    assert (goal - x["q_tm1"][x["a_tm1"]]).item() == pytest.approx(fixture["output"])


def test_double_q_learning_equals_rlax():
    (fixture,) = rlax("double_q_learning")
    x = fixture["inputs"]
    goal = q_learning_target(
        tensor(x["r_t"]), tensor(x["discount_t"]), tensor(x["q_t_value"]), tensor(x["q_t_selector"])
    )
    assert (goal - x["q_tm1"][x["a_tm1"]]).item() == pytest.approx(fixture["output"])


@given(st.integers(0, 10_000))
def test_double_q_target_never_exceeds_the_single_one(seed):
    torch.manual_seed(seed)
    q_target, q_online, total, scale = torch.randn(8, 4), torch.randn(8, 4), torch.randn(8), torch.rand(8)
    single = q_learning_target(total, scale, q_target, q_target)
    assert (q_learning_target(total, scale, q_target, q_online) <= single).all()
    assert torch.equal(
        q_learning_target(total, torch.zeros(8), q_target, q_online), total
    )  # terminal: the reward alone


def test_huber_equals_rlax():
    (fixture,) = rlax("huber_loss")
    x = tensor(fixture["inputs"]["x"])
    assert huber(x, fixture["inputs"]["delta"]).tolist() == pytest.approx(fixture["output"])


def test_huber_clips_the_gradient():
    error = tensor([-3.0, -0.25, 0.5, 2.0]).requires_grad_()
    huber(error).sum().backward()
    assert error.grad.tolist() == [-1, -0.25, 0.5, 1]


def test_pick_and_hopped():
    x = torch.arange(12).view(2, 3, 2)  # [T, B, A]
    assert pick(x, torch.tensor([[0, 1, 0], [1, 1, 0]])).tolist() == [[0, 3, 4], [7, 9, 10]]
    assert hopped(x, torch.tensor([[1, 0, 1]])).tolist() == [[6, 7], [2, 3], [10, 11]]


def test_rewards_are_clipped_to_a_bound_or_not_at_all():
    reward = torch.tensor([-7.0, -0.5, 0.0, 1.0, 200.0])
    assert clip_reward(reward, 1.0).tolist() == [-1.0, -0.5, 0.0, 1.0, 1.0]
    assert clip_reward(reward, 0.0).tolist() == reward.tolist()
