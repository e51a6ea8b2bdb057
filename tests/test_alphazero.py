"""AlphaZero: what is learned from a search, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch

from agents.alphazero import Planning
from agents.ppo import PPO
from agents.sequence import Sequence, tree_map
from envs.library import game_of
from envs.timestep import TimeStep
from experiments.build import build, build_agent
from experiments.checks import check
from experiments.presets import PRESETS
from experiments.scoring import score_agent
from experiments.speed import speed_of
from experiments.viewer import explain
from experiments.viewer.player import Player

CPU = torch.device("cpu")
TIC_TAC_TOE = game_of("board/tic-tac-toe").rules


def sequence(reward, last, batch=1):
    """A rollout of boards of tic-tac-toe, of which nothing matters but rewards and ends."""
    reward, last = torch.tensor(reward)[:, None].expand(-1, batch), torch.tensor(last)[:, None].expand(-1, batch)
    obs = torch.zeros(*reward.shape, 1, 2, 3, 3, dtype=torch.uint8)
    flags = torch.zeros_like(last)
    step = TimeStep(obs, flags.long(), reward, flags, last, last)
    note = torch.full((*reward.shape, 9), 1 / 9), torch.tensor([0.5, 0.1, -0.2, 0.4, 0.3])[:, None].expand(-1, batch)
    return Sequence(step, flags.long(), note, (), torch.ones(batch), torch.arange(batch))


def test_what_one_wins_the_other_loses():
    """Won at the third step by who moved at the second; then a new game, whose value after the rollout is 0.3."""
    seq = sequence([0.0, 0.0, 1.0, 0.0, 0.0], [False, False, True, False, False])
    _, goal = Planning(trace=1.0, rules=TIC_TAC_TOE).targets(seq).note
    assert goal[:, 0].tolist()[:2] == pytest.approx([-1.0, 1.0]) and goal[3, 0] == pytest.approx(-0.3)
    _, goal = Planning(trace=0.0, rules=TIC_TAC_TOE).targets(seq).note
    assert goal[:, 0].tolist()[:2] == pytest.approx([-0.1, 1.0])


def test_the_loss_is_worked_out_by_hand_and_knows_the_rules():
    planning = Planning(value_cost=0.5, rules=TIC_TAC_TOE)
    seq = planning.targets(sequence([0.0, 0.0, 1.0, 0.0, 0.0], [False, False, True, False, False]))
    seq.step.obs[0, 0, 0, 0] = 255 * torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 0]], dtype=torch.uint8)
    seq.step.obs[2] = 255  # a full board, which nobody learns from
    policy = torch.zeros(4, 1, 9)
    policy[:, :, 7], policy[:, :, 8] = 0.25, 0.75
    logits = torch.zeros(4, 1, 9)
    logits[..., 8], logits[0, 0, 0] = math.log(3), 50.0  # liked, and against the rules
    value = torch.tensor([0.5, 0.0, 9.0, -0.3])[:, None]
    loss, _, metrics = planning.loss(
        lambda step, state: ((logits, value), ()), None, seq._replace(note=(policy, seq.note[1]))
    )
    of_two = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    spread = 0.25 * math.log(11) + 0.75 * (math.log(11) - math.log(3))  # of nine actions, one of weight 3
    assert metrics["losses/policy_loss"].item() == pytest.approx((of_two + 2 * spread) / 3, abs=1e-4)
    assert metrics["losses/value_loss"].item() == pytest.approx((1.5**2 + 1.0 + 0) / 3)
    assert loss.item() == pytest.approx((of_two + 2 * spread) / 3 + 0.5 * (1.5**2 + 1.0) / 3, abs=1e-4)


def small(game="board/tic-tac-toe", frames=10_000, **changes):
    x = PRESETS["alphazero"]
    network = replace(x.network, torso="mlp", width=1, blocks=2, hidden=64)
    algorithm = replace(x.algorithm, simulations=16, unroll=16)
    own = {"game": game, "network": network, "algorithm": algorithm, "frames": frames, "num_envs": 32}
    return replace(x, **own | changes)


def test_an_agent_plans_with_noise_in_training_only():
    torch.manual_seed(0)
    x = small()
    agent = build_agent(x, (1, 2, 3, 3), 9, CPU)
    step = tree_map(lambda x: x[0], sequence([0.0] * 5, [False] * 5, batch=64).step)
    drawn = agent.act(step, (), 0.0)
    with agent.evaluating():
        best, again = agent.act(step, (), 0.0), agent.act(step, (), 0.0)
    assert len(set(drawn[0].tolist())) > 1 and len(set(best[0].tolist())) == 1 and torch.equal(best[0], again[0])
    policy, value = drawn[1]
    assert policy.shape == (64, 9) and value.shape == (64,) and torch.allclose(policy.sum(1), torch.ones(64))
    over = step._replace(obs=torch.full_like(step.obs, 255), last=torch.ones(64, dtype=torch.bool))
    assert agent.act(over, (), 0.0)[1][0].isfinite().all()  # nothing can be done there, and nothing is asked


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"game": "Pong", "protocol": "machado"}, "--game Pong: AlphaZero plans by a game's rules; those of board/"),
        ({"protocol": "minimax"}, "--protocol minimax: AlphaZero learns by playing itself; use self-play"),
        ({"stack": 4}, "AlphaZero plans from the board alone: --stack 1"),
        ({"algorithm": PPO()}, "PPO does not know that what one player wins the other loses; use random or minimax"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check(replace(PRESETS["alphazero"], **changes), CPU)


def test_it_learns_tic_tac_toe_by_playing_itself():
    """It is evaluated against an opponent that never loses: nothing but draws is perfect."""
    x = small(optimiser=replace(PRESETS["alphazero"].optimiser, learning_rate=3e-3))
    setup = build(x, CPU)

    def scored():
        result, _ = score_agent(setup.agent, x, 40, epsilon=0.0, seed=1, device=CPU)
        assert result["protocol"] == "minimax"
        return result["mean"]

    assert scored() < -0.5
    for _ in setup.moments(x, None):
        pass
    setup.games.close()
    assert scored() > -0.25


def test_the_viewer_shows_what_the_search_found():
    x = small()
    agent = build_agent(x, (1, 2, 3, 3), 9, CPU)
    player = Player(x, game_of(x.game).protocol("self-play"), CPU, agent, None)
    agent.acting.eval()
    view = player.start(3).view
    with agent.evaluating():
        policy, value = agent.act(player.scene.step, (), 0.0)[1]
    assert torch.allclose(view.policy, policy[0]) and view.value == pytest.approx(value.item()) and view.values is None
    taken = player.scene.step.obs[0, 0].bool().any(0).flatten()
    assert taken.any() and not view.policy[taken].any()  # what the rules forbid is not wanted
    assert explain.worth(agent.algorithm) == "not discounted, as the search found it, for who is to move"
    player.close()


def test_what_is_measured_on_noise_is_measured():
    """Boards of noise have no free place: nothing may break."""
    x = small("board/connect-four", network=replace(PRESETS["alphazero"].network, hidden=8))
    speed, parameters = speed_of(x, CPU, emulate=1e-4, seconds=0.01)
    assert speed.frames_per_second > 0 and parameters > 0
