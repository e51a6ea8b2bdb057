"""AlphaZero: the search by hand and beside a slow twin, what is learned from it, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch

from agents.alphazero import Planning
from agents.ppo import PPO
from agents.search import completed_values, considered_visits, search, sigma
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
TIC_TAC_TOE, CONNECT_FOUR = (game_of(f"board/{name}").rules for name in ("tic-tac-toe", "connect-four"))


@pytest.mark.parametrize(
    "considered, simulations, expected",
    [
        (4, 16, "0000111122334455"), (4, 8, "00001122"), (16, 32, "00000000000000001111111122223333"),
        (8, 50, "0" * 8 + "1" * 8 + "2222333344445555" + "667788"),  # and so on, by twos
        (1, 3, "012"),
    ],
)  # fmt: skip
def test_sequential_halving_is_that_of_the_authors(considered, simulations, expected):
    """Of mctx 0.0.71, get_sequence_of_considered_visits."""
    assert considered_visits(considered, simulations)[: len(expected)] == [int(x) for x in expected]
    assert len(considered_visits(considered, simulations)) == simulations


def test_values_in_units_of_logits_by_hand():
    q, visits = torch.tensor([0.2, 0.5]), torch.tensor([1.0, 3.0])
    assert sigma(q, visits, 0.1).tolist() == pytest.approx([1.06, 2.65])
    assert sigma(q, visits, 1.0).tolist() == pytest.approx([10.6, 26.5])


def test_what_was_not_tried_is_worth_what_the_rest_says():
    # pi = .5 .3 .2; tried: 3 times 0.4 in the mean, once -0.2: mean by policy (.5 .4 - .3 .2) / .8 = 0.175;
    # with the network's 0.1 it is (0.1 + 4 * 0.175) / 5 = 0.16.
    log_prior = torch.tensor([0.5, 0.3, 0.2]).log()
    found = completed_values(
        log_prior, torch.tensor(0.1), torch.tensor([3.0, 1.0, 0.0]), torch.tensor([1.2, -0.2, 0.0])
    )
    assert found.tolist() == pytest.approx([0.4, -0.2, 0.16])
    assert completed_values(log_prior, torch.tensor(0.1), torch.zeros(3), torch.zeros(3)).tolist() == pytest.approx(
        [0.1] * 3
    )


def opinions(actions, seed=0):
    """A network of fixed random opinions: boards to (logits [N, A], value [N])."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(200, actions + 1, generator=generator)

    def ask(obs):
        seen = obs.flatten(1).float() / 255
        found = torch.tanh(seen @ weight[: seen.shape[1]] * 0.7)
        return 2 * found[:, :-1], found[:, -1]

    return ask


def boards(rules, count, moves, seed=0):
    """Positions after some moves at random, none of them over: uint8 [count, 1, 2, H, W]."""
    generator, found = torch.Generator().manual_seed(seed), []
    while len(found) < count:
        board, over = torch.zeros(1, 2, rules.height, rules.width, dtype=torch.uint8), False
        for _ in range(moves):
            action = torch.multinomial(rules.legal(board).float(), 1, generator=generator)[:, 0]
            board, _, ended = rules.play(board, action)
            over = over or bool(ended)
            if over:
                break
        if not over:
            found.append(board)
    return torch.stack(found)


def slow_search(rules, ask, board, simulations, considered, scale, gumbel):
    """The same for a single position [1, 2, H, W], one node and one action at a time: its action and, of actions that
    were tried or may be done, visits, sums of what came of them, and the improved policy; and that policy's value."""

    def made(board):
        logits, value = ask(board[None])
        allowed = rules.legal(board)[0]
        logits = [float(x) if free else -math.inf for x, free in zip(logits[0], allowed, strict=True)]
        return {"board": board, "logits": logits, "value": float(value), "n": {}, "w": {}, "child": {}, "over": False}

    def scores(node):
        """(logits + sigma of the completed values, visits) of what may be done."""
        open_ = [a for a, x in enumerate(node["logits"]) if x > -math.inf]
        top = max(node["logits"])
        norm = sum(math.exp(node["logits"][a] - top) for a in open_)
        prior = {a: math.exp(node["logits"][a] - top) / norm for a in open_}
        n = {a: node["n"].get(a, 0) for a in open_}
        q = {a: node["w"][a] / n[a] for a in open_ if n[a]}
        mixed = node["value"]
        if q:
            mean = sum(prior[a] * q[a] for a in q) / sum(prior[a] for a in q)
            mixed = (node["value"] + sum(n.values()) * mean) / (1 + sum(n.values()))
        unit = (50 + max(n.values())) * scale
        return {a: math.log(prior[a]) + unit * q.get(a, mixed) for a in open_}, n, {a: q.get(a, mixed) for a in open_}

    def inside(node):
        score, n, _ = scores(node)
        policy = softmax(score)
        return max(score, key=lambda a: policy[a] - n[a] / (1 + sum(n.values())))

    def softmax(score):
        top = max(score.values())
        norm = sum(math.exp(x - top) for x in score.values())
        return {a: math.exp(x - top) / norm for a, x in score.items()}

    root = made(board)
    free = sum(x > -math.inf for x in root["logits"])
    for wanted in considered_visits(min(considered, free), simulations):
        score, n, _ = scores(root)
        action = max((a for a in score if n[a] == wanted), key=lambda a: score[a] + float(gumbel[a]))
        node, path = root, []
        while True:
            path.append((node, action))
            below = node["child"].get(action)
            if below is None or below["over"]:
                break
            node, action = below, inside(below)
        if below is None:
            after, reward, over = rules.play(node["board"], torch.tensor([action]))
            below = made(after) if not over else {"value": 0.0, "over": True}
            below["reward"] = float(reward)
            node["child"][action] = below
        worth = below["reward"] - (0.0 if below["over"] else below["value"])
        for node, action in reversed(path):
            node["n"][action] = node["n"].get(action, 0) + 1
            node["w"][action] = node["w"].get(action, 0.0) + worth
            worth = -worth
    score, n, q = scores(root)
    policy, most = softmax(score), max(n.values())
    action = max((a for a in score if n[a] == most), key=lambda a: score[a] + float(gumbel[a]))
    return action, root["n"], root["w"], policy, sum(policy[a] * q[a] for a in policy)


@pytest.mark.parametrize("rules, moves", [(TIC_TAC_TOE, 2), (TIC_TAC_TOE, 5), (CONNECT_FOUR, 9)])
@pytest.mark.parametrize("simulations, considered", [(1, 4), (16, 4), (40, 8)])
def test_many_games_at_once_are_searched_as_one_at_a_time(rules, moves, simulations, considered):
    torch.manual_seed(0)
    obs, ask = boards(rules, 12, moves), opinions(rules.num_actions)
    gumbel = -torch.zeros(12, rules.num_actions).exponential_().log()
    found = search(rules, ask, obs, simulations, considered, 0.1, gumbel)
    for i in range(12):
        action, visits, total, policy, value = slow_search(rules, ask, obs[i], simulations, considered, 0.1, gumbel[i])
        assert {a: int(n) for a, n in enumerate(found.visits[i]) if n} == visits and set(total) == set(visits)
        assert int(found.action[i]) == action and float(found.value[i]) == pytest.approx(value, abs=1e-4)
        assert {a: float(found.policy[i, a]) for a in policy} == pytest.approx(policy, abs=1e-4)
    assert (found.visits.sum(1) == simulations).all()
    assert not found.visits[~rules.legal(obs[:, 0])].any()
    assert torch.allclose(found.policy.sum(1), torch.ones(12)) and not found.policy[~rules.legal(obs[:, 0])].any()


def test_one_simulation_without_noise_tries_what_the_network_likes_best():
    obs, ask = boards(CONNECT_FOUR, 20, 6), opinions(7)
    liked = ask(obs)[0].masked_fill(~CONNECT_FOUR.legal(obs[:, 0]), -math.inf).argmax(1)
    found = search(CONNECT_FOUR, ask, obs, 1, 7, 1.0, torch.zeros(20, 7))
    assert torch.equal(found.action, liked) and torch.equal(found.visits.argmax(1), liked)


def test_a_search_sees_a_win_and_what_has_to_be_stopped():
    """Without any opinion of a network."""
    ask = lambda obs: (torch.zeros(len(obs), 9), torch.zeros(len(obs)))
    board = torch.zeros(2, 1, 2, 9, dtype=torch.uint8)
    board[0, 0, 0, [0, 1]] = board[0, 0, 1, [3, 4]] = 255  # wins at 2
    board[1, 0, 0, 0] = board[1, 0, 1, [3, 4]] = 255  # loses, but at 5
    found = search(TIC_TAC_TOE, ask, board.unflatten(-1, (3, 3)), 200, 9, 1.0, torch.zeros(2, 9))
    assert found.action.tolist() == [2, 5] and found.value[0] > 0.99


def test_noise_considers_other_moves():
    ask, obs = opinions(7), torch.zeros(200, 1, 2, 6, 7, dtype=torch.uint8)
    torch.manual_seed(0)
    gumbel = -torch.zeros(200, 7).exponential_().log()
    noisy = search(CONNECT_FOUR, ask, obs, 4, 2, 0.01, gumbel)
    assert len(set(noisy.action.tolist())) == 7
    assert len(set(search(CONNECT_FOUR, ask, obs, 4, 2, 0.01, torch.zeros(200, 7)).action.tolist())) == 1


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
    x = small()
    agent = build_agent(x, (1, 2, 3, 3), 9, CPU)
    step = tree_map(lambda x: x[0], sequence([0.0] * 5, [False] * 5, batch=64).step)
    drawn = agent.act(step, (), 0.0)
    with agent.evaluating():
        best, again = agent.act(step, (), 0.0), agent.act(step, (), 0.0)
    assert len(set(drawn[0].tolist())) > 3 and len(set(best[0].tolist())) == 1 and torch.equal(best[0], again[0])
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
