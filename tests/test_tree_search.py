"""The search: by hand, and beside a slow twin, by a game's rules and in a model for one player."""

import math

import pytest
import torch

from agents.alphazero import Known
from agents.search import NEVER, completed_values, considered_visits, gumbel_noise, search, sigma
from envs.library import game_of

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


class Opinions:
    """A network of fixed random opinions of boards, and none where there are no weights."""

    def __init__(self, actions, weight=0.7):
        self.weight = weight * torch.randn(200, actions + 1, generator=torch.Generator().manual_seed(0))

    def encode(self, obs):
        return obs.flatten(1).float() / 255

    def judge(self, seen):
        found = torch.tanh(seen @ self.weight[: seen.shape[1]])
        return 2 * found[:, :-1], found[:, -1]


class Walk:
    """A model of one player: positions are numbers [N, 4] that actions stir, and something is earned on the way."""

    discount = 0.9

    def __init__(self, actions):
        generator = torch.Generator().manual_seed(1)
        self.opinion = Opinions(actions)
        self.stir = torch.randn(actions, 4, 4, generator=generator)
        self.pay = torch.randn(actions, 4, generator=generator)

    def judge(self, position):
        logits, value = self.opinion.judge(position)
        return logits, 3 * value

    def play(self, position, action):
        after = torch.tanh(position[:, None] @ self.stir[action])[:, 0]
        return after, (after * self.pay[action]).sum(-1), after[:, 0] > 0.9


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


def slow_search(model, position, simulations, considered, scale, gumbel, rescale=False):
    """The same for a single position [...], one node and one action at a time: its action and, of actions that were
    tried or may be done, visits, sums of what came of them, and the improved policy; and that policy's value."""

    def made(position):
        logits, value = model.judge(position[None])
        logits = [float(x) if x > NEVER else -math.inf for x in logits[0]]
        return {"position": position, "logits": logits, "value": float(value), "reward": 0.0, "over": False,
                "n": {}, "w": {}, "child": {}}  # fmt: skip

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
        unit, completed = (50 + max(n.values())) * scale, {a: q.get(a, mixed) for a in open_}
        low, width = (min(seen), max(max(seen) - min(seen), 0.01)) if rescale else (0, 1)
        return {a: math.log(prior[a]) + unit * (completed[a] - low) / width for a in open_}, n, completed

    def inside(node):
        score, n, _ = scores(node)
        policy = softmax(score)
        return max(score, key=lambda a: policy[a] - n[a] / (1 + sum(n.values())))

    def softmax(score):
        top = max(score.values())
        norm = sum(math.exp(x - top) for x in score.values())
        return {a: math.exp(x - top) / norm for a, x in score.items()}

    root = made(position)
    seen = [root["value"]]
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
            after, reward, over = model.play(node["position"][None], torch.tensor([action]))
            below = made(after[0]) | {"reward": float(reward), "over": bool(over)}
            node["child"][action] = below
        worth = below["reward"] + model.discount * (0.0 if below["over"] else below["value"])
        for node, action in reversed(path):
            node["n"][action] = node["n"].get(action, 0) + 1
            node["w"][action] = node["w"].get(action, 0.0) + worth
            seen.append(node["w"][action] / node["n"][action])
            worth = node["reward"] + model.discount * worth
    score, n, q = scores(root)
    policy, most = softmax(score), max(n.values())
    action = max((a for a in score if n[a] == most), key=lambda a: score[a] + float(gumbel[a]))
    return action, root["n"], root["w"], policy, sum(policy[a] * q[a] for a in policy)


def alike(model, roots, simulations, considered, rescale):
    """Searches many at once and one at a time."""
    torch.manual_seed(5)
    found = search(model, roots, simulations, considered, 0.1, True, rescale)
    torch.manual_seed(5)
    gumbel = gumbel_noise(model.judge(roots)[0])
    for i in range(len(roots)):
        slow = slow_search(model, roots[i], simulations, considered, 0.1, gumbel[i], rescale)
        action, visits, total, policy, value = slow
        assert {a: int(n) for a, n in enumerate(found.visits[i]) if n} == visits and set(total) == set(visits)
        assert int(found.action[i]) == action and float(found.value[i]) == pytest.approx(value, abs=1e-4)
        assert {a: float(found.policy[i, a]) for a in policy} == pytest.approx(policy, abs=1e-4)
    assert (found.visits.sum(1) == simulations).all() and torch.allclose(found.policy.sum(1), torch.ones(len(roots)))
    return found


@pytest.mark.parametrize("rules, moves", [(TIC_TAC_TOE, 2), (TIC_TAC_TOE, 5), (CONNECT_FOUR, 9)])
@pytest.mark.parametrize("simulations, considered", [(1, 4), (16, 4), (40, 8)])
def test_many_games_at_once_are_searched_as_one_at_a_time(rules, moves, simulations, considered):
    obs = boards(rules, 12, moves)
    found = alike(Known(rules, Opinions(rules.num_actions)), obs, simulations, considered, False)
    assert not found.visits[~rules.legal(obs[:, 0])].any() and not found.policy[~rules.legal(obs[:, 0])].any()


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("simulations, considered", [(1, 3), (16, 4), (50, 9)])
def test_what_one_player_earns_is_searched_likewise(simulations, considered, rescale):
    roots = torch.randn(12, 4, generator=torch.Generator().manual_seed(2))
    alike(Walk(5), roots, simulations, considered, rescale)


def test_rescaled_values_do_not_depend_on_their_unit():
    model = Walk(5)
    roots = torch.randn(12, 4, generator=torch.Generator().manual_seed(2))
    plans = [search(model, roots, 16, 5, 0.1, False, rescale=True)]
    judge, play = model.judge, model.play
    model.judge = lambda position: (judge(position)[0], 7 * judge(position)[1])
    model.play = lambda position, action: (lambda x, r, over: (x, 7 * r, over))(*play(position, action))
    plans.append(search(model, roots, 16, 5, 0.1, False, rescale=True))
    assert torch.equal(plans[0].visits, plans[1].visits) and torch.allclose(plans[0].policy, plans[1].policy, atol=1e-3)
    assert torch.allclose(7 * plans[0].value, plans[1].value, atol=1e-3)


def test_one_simulation_without_noise_tries_what_the_network_likes_best():
    obs, model = boards(CONNECT_FOUR, 20, 6), Known(CONNECT_FOUR, Opinions(7))
    liked = model.judge(obs)[0].argmax(1)
    found = search(model, obs, 1, 7, 1.0, False)
    assert torch.equal(found.action, liked) and torch.equal(found.visits.argmax(1), liked)


def test_a_search_sees_a_win_and_what_has_to_be_stopped():
    """Without any opinion of a network."""
    board = torch.zeros(2, 1, 2, 9, dtype=torch.uint8)
    board[0, 0, 0, [0, 1]] = board[0, 0, 1, [3, 4]] = 255  # wins at 2
    board[1, 0, 0, 0] = board[1, 0, 1, [3, 4]] = 255  # loses, but at 5
    found = search(Known(TIC_TAC_TOE, Opinions(9, weight=0.0)), board.unflatten(-1, (3, 3)), 200, 9, 1.0, False)
    assert found.action.tolist() == [2, 5] and found.value[0] > 0.99


def test_what_is_foreseen_is_what_was_imagined_most_often():
    """A win in three moves, two of them the agent's, that cannot be stopped: it has two ends."""
    board = torch.zeros(1, 1, 2, 9, dtype=torch.uint8)
    board[0, 0, 0, [0, 4]] = board[0, 0, 1, [1, 8]] = 255  # 3 threatens 5 and 6, and 6 threatens 2 and 3
    model = Known(TIC_TAC_TOE, Opinions(9, weight=0.0))
    found = search(model, board.unflatten(-1, (3, 3)), 400, 9, 1.0, False)
    first, answer, last = found.line(0)[:3]
    assert first == int(found.action) and first in (3, 6) and last != answer
    boards_ = board.unflatten(-1, (3, 3))
    for action in (first, answer, last):
        boards_, reward, over = model.play(boards_, torch.tensor([action]))
    assert float(reward) == 1 and bool(over) and len(found.line(0)) == 3


def test_noise_considers_other_moves():
    model, obs = Known(CONNECT_FOUR, Opinions(7)), torch.zeros(200, 1, 2, 6, 7, dtype=torch.uint8)
    torch.manual_seed(0)
    assert len(set(search(model, obs, 4, 2, 0.01, True).action.tolist())) == 7
    assert len(set(search(model, obs, 4, 2, 0.01, False).action.tolist())) == 1
