"""Sequences with burn-in and stored memories, PPO, value rescaling: fixtures and slow twins."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.agent import Agent
from agents.c51 import C51
from agents.dqn import DQN
from agents.explore import Ladder, Linear
from agents.munchausen import Munchausen
from agents.optimiser import Adam
from agents.ppo import PPO
from agents.qrdqn import QRDQN
from agents.replay import Replay, ReplayConfig
from agents.returns import clipped_surrogate, gae, mixed_priority, rescale, unscale, vtrace
from agents.rollout import Rollout, RolloutConfig
from agents.sequence import Sequence, tree_map
from envs.probe import make_probe
from envs.timestep import TimeStep
from experiments.build_network import build_network
from experiments.checks import check
from experiments.config import NetworkConfig
from experiments.loop import train
from experiments.presets import PRESETS
from tests.test_agents import MORE, learn
from tests.test_cores import CORES, network_of, some_steps
from tests.test_returns import column, episodes, hand, rlax, tensor

SMALL = {"torso": "mlp", "hidden": 64, "memory_size": 64}


@pytest.mark.parametrize("burn_in", [0, 4])
@pytest.mark.parametrize("core", CORES)
def test_no_gradient_reaches_the_burn_in(core, burn_in):
    network = network_of(core)
    steps = some_steps(12, 3, begins=0.0)
    embedded = torch.nn.Parameter(steps.obs.float() / 255)
    network.torso.forward = lambda x: network.torso.layers[1:](x.flatten(1))  # takes floats
    seq = Sequence(
        steps._replace(obs=embedded), torch.zeros(12, 3).long(), (), network.initial_state(3), torch.ones(3),
        torch.arange(3),
    )  # fmt: skip
    loss, priority, _ = DQN(n_steps=2, burn_in=burn_in, unroll=10 - burn_in).loss(network, network, seq)
    loss.sum().backward()
    touched = embedded.grad.flatten(1).abs().sum(1) > 0
    assert touched.tolist() == [False] * burn_in + [True] * (10 - burn_in) + [False, False]
    assert loss.shape == priority.shape == (3,)


KINDS = (DQN(), DQN(double=True, value_rescaling=True), C51(atoms=5), QRDQN(quantiles=4), Munchausen())


@pytest.mark.parametrize("algorithm", KINDS, ids=str)
def test_a_sequence_of_a_memoryless_network_is_its_transitions(algorithm):
    """K steps in a row give the mean of what the K give alone, ends of episodes left out, and R2D2's priority."""
    algorithm = replace(algorithm, n_steps=3)
    torch.manual_seed(0)
    nets = [build_network(NetworkConfig(torso="mlp", hidden=16), (1, 2, 3), 3, algorithm).double() for _ in range(2)]
    for net in nets:
        net.torso.forward = lambda x, net=net: net.torso.layers[1:](x.flatten(1).double())
    steps, action = some_steps(10, 4), torch.randint(3, (10, 4))
    seq = Sequence(steps, action, (), (), torch.ones(4), torch.arange(4))
    loss, priority, _ = replace(algorithm, unroll=7).loss(*nets, seq)
    alone = []
    for t in range(7):
        step, acted = tree_map(lambda x: x[t : t + 4], (steps, action))
        alone.append(algorithm.loss(*nets, seq._replace(step=step, action=acted)))
    live = ~steps.last[:7]
    losses, sizes = (torch.stack([x[i] for x in alone]) * live for i in (0, 1))
    torch.testing.assert_close(loss, losses.sum(0) / live.sum(0))
    torch.testing.assert_close(priority, 0.9 * sizes.amax(0) + 0.1 * sizes.sum(0) / live.sum(0))


@pytest.mark.parametrize("algorithm", [DQN(n_steps=2), C51(n_steps=2, atoms=5)], ids=["dqn", "c51"])
def test_a_burn_in_without_memory_is_only_left_out(algorithm):
    torch.manual_seed(0)
    config = NetworkConfig(torso="mlp", hidden=16)
    nets = [build_network(config, (1, 2, 3), 3, algorithm) for _ in range(2)]
    steps, action, earned = some_steps(10, 4, begins=0.4), torch.randint(3, (10, 4)), torch.randn(10, 4)
    seq = Sequence(steps, action, (), (), torch.ones(4), torch.arange(4), earned)
    assert not torch.equal(steps.last[:5], steps.last[3:8])
    later, action, earned = tree_map(lambda x: x[3:], (steps, action, earned))
    rest = seq._replace(step=later, action=action, intrinsic_reward=earned)
    with_burn_in = replace(algorithm, burn_in=3, unroll=5).loss(*nets, seq)
    for a, b in zip(with_burn_in[:2], replace(algorithm, unroll=5).loss(*nets, rest)[:2], strict=True):
        torch.testing.assert_close(a, b)


def test_the_replay_keeps_the_memory_of_every_stride_th_step():
    games = make_probe("recall", 3)
    network = build_network(NetworkConfig(memory="lstm", **SMALL), games.observation_shape, games.num_actions)
    agent = Agent(network, DQN(unroll=4), Adam(), 10)
    replay = Replay(ReplayConfig(120, 8, 1, stride=5), 3, length=5)
    step, state, kept = games.reset(0), agent.initial_state(3), []
    for _ in range(90):  # the ring of 40 rows wraps twice
        action, note, following = agent.act(step, state, 0.0)
        replay.add(step, action, note, state)
        kept.append((state, action))
        step, state = games.step(action), following
    assert all(len(ring) == 8 for ring in replay.rows[3])
    seq = replay.sample(64)
    for b, (row, game) in enumerate(zip((seq.ids // 3).tolist(), (seq.ids % 3).tolist(), strict=True)):
        assert row % 5 == 0
        assert all(torch.equal(got[b], want[game]) for got, want in zip(seq.state, kept[row][0], strict=True))
        assert seq.action[0, b] == kept[row][1][game]
    outputs, _ = network(seq.step, seq.state)
    assert torch.equal(outputs.argmax(-1), seq.action)  # learning replays acting


@pytest.mark.parametrize("fixture", hand("value_rescale"))
def test_value_rescaling_equals_the_hand_fixtures(fixture):
    x, out = fixture["inputs"]["x"], fixture["output"]
    assert rescale(tensor(x)).item() == pytest.approx(out["h"])
    assert unscale(tensor(out["h"])).item() == pytest.approx(out["h_inv_of_h"], abs=1e-6)


@given(st.floats(-1e4, 1e4))
def test_the_inverse_keeps_float32_s_digits(x):
    """The formula of the paper gives 0.999832 for 1 in float32."""
    once = torch.tensor(x, dtype=torch.float32)
    assert unscale(rescale(once)).item() == pytest.approx(once.item(), rel=1e-5, abs=1e-6)


def test_transformed_targets_equal_rlax():
    """n-step Q-learning of rescaled values, over a sequence; its only bootstrap is between equal values."""
    (fixture,) = rlax("transformed_n_step_q_learning")
    x = fixture["inputs"]
    # rlax: q_tm1[t] acts, r_t[t] and target_q_t[t] are one step later; our rows are the steps themselves.
    online = torch.cat([tensor(x["q_tm1"]), torch.zeros(1, 2, dtype=torch.float64)])
    target = torch.cat([torch.zeros(1, 2, dtype=torch.float64), tensor(x["target_q_t"])])
    terminal = torch.tensor([False, *(d == 0 for d in x["discount_t"])])[:, None]
    reward = tensor([0.0, *x["r_t"]])[:, None]
    flags = torch.zeros(5, 1, dtype=torch.bool)
    step = TimeStep(torch.arange(5)[:, None], flags.long(), reward, flags, flags, terminal)
    action = torch.tensor([*x["a_tm1"], 0])[:, None]
    algorithm = DQN(discount=0.9, n_steps=x["n"], unroll=3, reward_clip=0.0, value_rescaling=True)
    seq = Sequence(step, action, (), (), torch.ones(1), torch.zeros(1).long())
    loss, priority, _ = algorithm.loss(lambda s, h: (online[s.obs], h), lambda s, h: (target[s.obs], h), seq)
    errors = tensor(fixture["output"][:3])  # rlax shortens the last one's n
    assert loss.item() == pytest.approx((errors**2).mean().item(), rel=1e-5)
    size = errors.abs()
    assert priority.item() == pytest.approx((0.9 * size.max() + 0.1 * size.mean()).item(), rel=1e-5)


def test_r2d2_priority_equals_the_hand_fixture():
    (fixture,) = hand("r2d2_priority")
    size = tensor(fixture["inputs"]["td"]).abs()[:, None]
    found = mixed_priority(size, torch.ones_like(size, dtype=torch.bool), fixture["inputs"]["eta"])
    assert found.item() == pytest.approx(fixture["output"])


def test_the_ladder_equals_the_hand_fixture():
    (fixture,) = hand("apex_epsilon")
    x = fixture["inputs"]
    assert Ladder(x["N"], x["eps"], x["alpha"])(0).tolist() == pytest.approx(fixture["output"])
    assert Ladder(1)(9).tolist() == pytest.approx([0.4])


def test_gae_equals_the_hand_fixture():
    (fixture,) = hand("gae")
    x = fixture["inputs"]
    reward, value = tensor([0, *x["r"]])[:, None], tensor([*x["v"], x["v_last"]])[:, None]
    ends = torch.tensor([0, *x["done"]], dtype=torch.bool)[:, None]
    found = gae(reward, ends, torch.zeros_like(ends), value, x["gamma"], x["lambda"])
    assert found.flatten().tolist() == pytest.approx(fixture["output"])


@given(episodes, st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_the_sum_of_discounted_errors(rows, discount, trace):
    """eq. 16 of the paper, forwards from every step, never past an episode's end."""
    reward = tensor([r for r, _ in rows])[:, None]
    terminal = torch.tensor([kind in ("life", "over") for _, kind in rows])[:, None]
    last = torch.tensor([kind in ("over", "limit") for _, kind in rows])[:, None]
    value = reward.flip(0) / 3
    found = gae(reward, terminal, last, value, discount, trace)
    for t in range(len(rows) - 1):
        total, scale = 0.0, 1.0
        for k in range(t, len(rows) - 1):
            total += scale * (reward[k + 1] + discount * ~terminal[k + 1] * value[k + 1] - value[k]).item()
            scale *= discount * trace * (not terminal[k + 1]) * (not last[k + 1])
        assert found[t].item() == pytest.approx(total, abs=1e-5)


def test_a_time_limit_is_bootstrapped_and_a_game_over_is_not():
    reward, value, no = column(0.0, 1.0, 0.0), column(0.0, 10.0, 0.0), column(False, False, False)
    end = column(False, True, False)
    assert gae(reward, no, end, value, 0.5, 0.9)[0].item() == 1 + 0.5 * 10
    assert gae(reward, end, end, value, 0.5, 0.9)[0].item() == 1


def test_a_minibatch_of_nothing_but_ends_teaches_nothing():
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    loss, metrics = PPO().policy_loss(
        torch.randn(1, 2, 3), torch.zeros(1, 2).long(), torch.zeros(1, 2), torch.ones(1, 2), nothing
    )
    assert (loss * nothing).sum() == 0 and metrics["losses/entropy"] == 0


def test_the_clipped_surrogate_equals_rlax():
    (fixture,) = rlax("clipped_surrogate_pg_loss")
    x = fixture["inputs"]
    loss = clipped_surrogate(tensor(x["prob_ratios_t"]), tensor(x["adv_t"]), x["epsilon"])
    assert loss.mean().item() == pytest.approx(fixture["output"])


def test_vtrace_equals_rlax():
    (fixture,) = rlax("vtrace_td_error_and_advantage")
    x, out = fixture["inputs"], fixture["output"]
    assert x["v_t"][:-1] == x["v_tm1"][1:]
    reward, value = tensor([0, *x["r_t"]])[:, None], tensor([*x["v_tm1"], x["v_t"][-1]])[:, None]
    terminal = torch.tensor([False, *(d == 0 for d in x["discount_t"])])[:, None]
    ratio = tensor(x["rho_tm1"])[:, None]
    targets, advantage = vtrace(reward, terminal, torch.zeros_like(terminal), value, ratio, 0.9)
    assert (targets - value[:-1]).flatten().tolist() == pytest.approx(out["errors"], abs=1e-6)
    assert advantage.flatten().tolist() == pytest.approx(out["pg_advantage"], abs=1e-6)


@given(episodes, st.floats(0, 1))
def test_vtrace_on_policy_is_the_return_and_without_weight_the_value(rows, discount):
    reward = tensor([r for r, _ in rows])[:, None]
    terminal = torch.tensor([kind in ("life", "over") for _, kind in rows])[:, None]
    last = torch.tensor([kind in ("over", "limit") for _, kind in rows])[:, None]
    value = reward.flip(0) / 3
    targets, _ = vtrace(reward, terminal, last, value, torch.ones_like(reward[1:]), discount)
    torch.testing.assert_close(targets - value[:-1], gae(reward, terminal, last, value, discount, 1.0))
    targets, advantage = vtrace(reward, terminal, last, value, torch.zeros_like(reward[1:]), discount)
    assert torch.equal(targets, value[:-1]) and not advantage.any()


def rollout_of(memory, shuffle, minibatches):
    algorithm = PPO(unroll=16)
    torch.manual_seed(0)
    games = make_probe("recall", 8)
    config = NetworkConfig(memory=memory, **SMALL)
    agent = Agent(build_network(config, games.observation_shape, games.num_actions, algorithm), algorithm, Adam(), 0)
    rollout = Rollout(RolloutConfig(1, minibatches, shuffle), 8, algorithm.length, algorithm.targets, True)
    step, state = games.reset(0), agent.initial_state(8)
    for _ in range(3 * 16 + 1):
        batches = []
        action, note, following = agent.act(step, state, 0.0)
        rollout.add(step, action, note, state)
        batches = [seq for seq, _ in rollout.batches()]
        if batches:
            rollout.add(step, action, note, state)
        step, state = games.step(action), following
    return agent, batches


@pytest.mark.parametrize(
    "memory, shuffle", [("none", "steps"), *((core, "games") for core in ("none", "lstm", "gru", "gtrxl", "dnc"))]
)
def test_the_ratio_is_one_before_the_first_update(memory, shuffle):
    """Recomputed log-probabilities and values equal the collected, in every minibatch."""
    agent, batches = rollout_of(memory, shuffle, 4)
    assert len(batches) == 4
    for seq in batches:
        (logits, value), _ = agent.online(seq.step, seq.state)
        log_mu, old_value, _ = seq.note
        log_pi = logits.log_softmax(-1).gather(-1, seq.action[..., None]).squeeze(-1)
        torch.testing.assert_close(log_pi, log_mu, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(value, old_value, rtol=1e-5, atol=1e-6)
        _, _, metrics = agent.algorithm.loss(agent.online, None, seq)
        assert metrics["losses/clipfrac"] == 0 and metrics["losses/approx_kl"].abs() < 1e-6


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_the_ratio_is_one_in_the_first_minibatch_of_every_rollout(memory):
    """Through the loop itself, which lets nothing be played by the policy of before."""
    agent, _ = rollout_of(memory, "games", 4)
    algorithm = agent.algorithm
    rollout = Rollout(RolloutConfig(2, 4, "games"), 8, algorithm.length, algorithm.targets, algorithm.games_wait)
    learn, off = agent.learn, []

    def measured(seq, count, agent_steps):
        with torch.no_grad():
            (logits, _), _ = agent.online(seq.step, seq.state)
        log_pi = logits.log_softmax(-1).gather(-1, seq.action[..., None]).squeeze(-1)
        off.append(float((log_pi - seq.note[0]).abs().max()))
        return learn(seq, count, agent_steps)

    agent.learn = measured
    for _ in train(agent, make_probe("recall", 8), rollout, Linear(0.0, 0.0, 0), 8 * (4 * 16 + 1), seed=1):
        pass
    first, later = off[::8], off[1::8]
    assert len(first) == 4 and max(first) < 1e-5 < min(later)


def test_ppo_never_learns_from_the_row_at_an_end():
    agent, (seq,) = rollout_of("none", "games", 1)
    assert seq.step.last.any()
    one = agent.algorithm.loss(agent.online, None, seq)[0]
    action = torch.where(seq.step.last, 1 - seq.action, seq.action)
    assert torch.equal(one, agent.algorithm.loss(agent.online, None, seq._replace(action=action))[0])


MORE.update({
    "ppo": (PPO(unroll=16, clip=0.2), NetworkConfig(**SMALL), RolloutConfig(4, 4), Adam(1e-3, 1e-5, 0.5), 0),
    "gru-dqn": (
        DQN(burn_in=2, unroll=6), NetworkConfig(memory="gru", **SMALL),
        ReplayConfig(20_000, 32, 500, 16, stride=2), Adam(1e-3, 1e-5), 50,
    ),
    "lstm-double": (
        DQN(burn_in=0, unroll=8, n_steps=2, double=True, value_rescaling=True, reward_clip=0.0),
        NetworkConfig(memory="lstm", head="dueling", **SMALL),
        ReplayConfig(20_000, 32, 500, 16, 0.9, stride=2), Adam(2e-3, 1e-5), 50,
    ),
    "gtrxl-ppo": (
        PPO(unroll=16, clip=0.2), NetworkConfig(memory="gtrxl", memory_window=8, memory_layers=1, **SMALL),
        RolloutConfig(4, 2, "games"), Adam(2e-3, 1e-5, 0.5), 0,
    ),
    "dnc-ppo": (
        PPO(unroll=16, clip=0.2), NetworkConfig(memory="dnc", memory_places=4, **SMALL),
        RolloutConfig(4, 1, "games"), Adam(4e-3, 1e-5, 0.5), 0,
    ),
    "gru-ppo": (
        PPO(unroll=16, clip=0.2), NetworkConfig(memory="gru", **SMALL), RolloutConfig(4, 4, "games"),
        Adam(2e-3, 1e-5, 0.5), 0,
    ),
})  # fmt: skip


@pytest.mark.parametrize(
    "name, agent_steps, games",
    [("gru-dqn", 15_000, 16), ("lstm-double", 15_000, 16), ("gru-ppo", 15_000, 16), ("gtrxl-ppo", 4_000, 16),
     ("dnc-ppo", 6_000, 32)],
)  # fmt: skip
def test_agents_with_memory_recall(name, agent_steps, games):
    """What is impossible without memory (the other half of this test is in test_agents)."""
    assert learn(name, "recall", agent_steps, games, enough=0.9) >= 0.9


def test_ppo_masters_catch():
    assert learn("ppo", "catch", 25_000, enough=0.8) >= 0.8


def test_settings_that_do_not_fit_a_memory_are_refused():
    device = torch.device("cpu")
    for x, words in (
        (replace(PRESETS["dqn"], network=NetworkConfig(memory="gru")), "--algorithm.unroll"),
        (replace(PRESETS["pqn"], network=NetworkConfig(memory="gru")), "shuffle games"),
        (replace(PRESETS["r2d2-small"], num_envs=3), "a rung for every game"),
        (replace(PRESETS["ppo"], algorithm=DQN()), "learns from a replay"),
        (replace(PRESETS["dqn"], algorithm=PPO()), "learns from rollouts"),
    ):
        with pytest.raises(ValueError, match=words):
            check(x, device)
