"""Target networks as running means, that may play, and weights that begin anew."""

import copy
from dataclasses import replace

import pytest
import torch

from agents.agent import Agent
from agents.c51 import C51
from agents.curious import Bonus
from agents.optimiser import Adam
from agents.reset import Reset
from agents.sequence import tree_map
from experiments.build import build, build_agent
from experiments.checks import check
from experiments.distributed.setup import build as build_with_players
from experiments.presets import PRESETS
from experiments.scoring import load_weights, weights_hash, write_scored
from tests.test_players import small
from tests.test_spr import ACTIONS, CPU, SHAPE, networks, sequences


def acted(agent):
    """Whether the target network is what the last action was asked of."""
    asked = []
    hooks = [
        x.register_forward_hook(lambda *_, i=i: asked.append(i)) for i, x in enumerate((agent.online, agent.target))
    ]
    agent.act(tree_map(lambda x: x[0], sequences(1).step), (), 0.0)
    for hook in hooks:
        hook.remove()
    return asked


def test_a_target_network_follows_as_a_running_mean_and_may_act(tmp_path):
    algorithm = C51()
    for acts in (False, True):
        agent = Agent(networks(algorithm)[0], algorithm, Adam(), 2, bf16=True, target_tau=0.25, target_acts=acts)
        before = [p.clone() for p in agent.target.parameters()]
        assert all(p.dtype == torch.float32 for p in before)  # a quarter of a small step is lost in 16 bits
        for _ in range(2):
            agent.learn(sequences(algorithm.length))
        for old, p, online in zip(before, agent.target.parameters(), agent.online.parameters(), strict=True):
            assert torch.allclose(p, 0.75 * old + 0.25 * online, atol=1e-7) and not torch.equal(p, online)
        assert acted(agent) == [int(acts)]
        with agent.evaluating():
            assert not agent.acting.training
        assert agent.acting.training and agent.acting is (agent.target if acts else agent.online)


def test_weights_that_are_kept_and_compared_are_those_that_act(tmp_path):
    x = replace(PRESETS["spr"], network=replace(PRESETS["spr"].network, torso="mlp", hidden=4), target_acts=True)
    one, other = (build_agent(replace(x, target_tau=tau), SHAPE, ACTIONS, CPU) for tau in (0.5, 0.25))
    with torch.no_grad():
        next(one.target.parameters()).add_(1.0)
    assert weights_hash(one) != weights_hash(other)
    write_scored(tmp_path / "best", one, {"frames": 4, "agent_steps": 1, "mean": 0.0})
    load_weights(tmp_path / "best", other)
    assert weights_hash(one) == weights_hash(other)
    assert not torch.equal(next(one.online.parameters()), next(other.target.parameters()))


def reset_agent(period=10, end=35, **more):
    x = small("bbf", distributed="none", reset=Reset(period=period, keep=0.25), game="minatar/breakout", **more)
    x = replace(x, protocol="minatar", network=replace(x.network, torso="minatar"))
    agent = build_agent(x, SHAPE, ACTIONS, CPU)
    agent.plan(end, 0)
    return agent


def test_a_reset_keeps_a_share_of_what_sees_and_nothing_above():
    agent = reset_agent()
    agent.learn(sequences(agent.algorithm.length), agent_steps=9)
    before = [dict(copy.deepcopy(n).named_parameters()) for n in (agent.online, agent.target)]
    assert any(x.abs().sum() for x in agent.optimiser.state_dict().values()) and agent.resets == 0
    agent._reset(1)
    for i, (network, old) in enumerate(zip((agent.online, agent.target), before, strict=True)):
        fresh = dict(agent.fresh(2 + i).named_parameters())
        for name, p in network.named_parameters():
            seeing = name.startswith(("torso.", "prediction.transition."))
            expected = 0.25 * old[name] + 0.75 * fresh[name] if seeing else fresh[name]
            assert torch.allclose(p, expected, atol=1e-7), name
    assert not torch.equal(agent.online.head.value[0].weight, agent.target.head.value[0].weight)
    assert not any(x.abs().sum() for x in agent.optimiser.state_dict().values())
    assert (agent.resets, agent.cycle_begin) == (1, 1)


def test_resets_come_every_period_and_none_too_late():
    agent = reset_agent(period=10, end=35)
    when = []
    renew = agent.reset.renew
    object.__setattr__(agent.reset, "renew", lambda *networks: when.append(agent.updates) or renew(*networks))
    for agent_steps in range(1, 36):
        agent.learn(sequences(agent.algorithm.length), agent_steps=agent_steps)
    assert when == [10, 10, 20, 20]  # both networks; at 30 less than a period is left


def test_fresh_weights_are_the_same_for_all_and_draw_nothing_from_others(monkeypatch):
    agent = reset_agent()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU is seeded anew"))
    state = torch.get_rng_state()
    one, again, other = agent.fresh(2), agent.fresh(2), agent.fresh(3)
    assert torch.equal(torch.get_rng_state(), state)
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True)]
    unlike = [torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True) if a.dim() > 1]
    assert all(same) and not any(unlike)


def test_what_measures_surprise_is_not_reset():
    agent = reset_agent(bonus=Bonus(weight=0.5))
    before = copy.deepcopy(agent.online.bonus.state_dict())
    agent._reset(1)
    assert all(torch.equal(before[name], y) for name, y in agent.online.bonus.state_dict().items())


def test_a_training_of_everything_goes_from_reset_to_reset():
    x = small("bbf", distributed="none", frames=1_000, reset=Reset(period=300, keep=0.5))
    setup = build(x, CPU)
    begun = [setup.agent.cycle_begin for _ in setup.moments(x, None)]
    setup.games.close()
    assert len(set(begun)) == 3 and setup.agent.resets == 3  # at 300 and 600; after 900 less than a period is left
    assert all(bool(p.isfinite().all()) for p in setup.agent.online.parameters())


def test_a_reset_that_was_due_before_learning_began_forgets_nothing():
    agent = reset_agent(period=10, end=100)
    before = agent.online.head.value[0].weight.clone()
    agent.learn(sequences(agent.algorithm.length), agent_steps=25)
    assert agent.resets == 2 and agent.cycle_begin == 0
    assert torch.allclose(agent.online.head.value[0].weight, before, atol=0.01)
    agent.learn(sequences(agent.algorithm.length), agent_steps=30)
    assert agent.resets == 3 and agent.cycle_begin == 2


@pytest.mark.parametrize("changes", [{"target_acts": True}, {"target_tau": 0.5}, {"reset": Reset(1_000)}])
def test_what_has_no_target_network_is_refused(changes):
    with pytest.raises(ValueError, match="are for what learns from a replay"):
        check(replace(PRESETS["ppo-minatar"], **changes), CPU)
    with pytest.raises(ValueError, match="--target-tau must be positive"):
        check(replace(PRESETS["bbf"], target_tau=0.0), CPU)


def test_players_are_given_the_weights_that_act():
    setup = build_with_players(small("bbf"), CPU)
    with torch.no_grad():
        next(setup.agent.target.parameters()).add_(1.0)
    try:
        given = setup.games.weights
        assert given.network is setup.agent.target
    finally:
        setup.games.close()
