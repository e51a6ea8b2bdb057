"""Boards for two: rules, opponents, and what an agent sees of them."""

import numpy as np
import pytest
import torch

from envs.board import Board, Minimax, Row
from envs.library import game_of
from envs.protocols import MINIMAX, RANDOM, SELF_PLAY

TIC_TAC_TOE, CONNECT_FOUR = (game_of(f"board/{name}").rules for name in ("tic-tac-toe", "connect-four"))
BOTH = pytest.mark.parametrize("rules", [TIC_TAC_TOE, CONNECT_FOUR, Row(4, 5, 3), Row(5, 4, 4, falls=True)], ids=str)


def drawn(board):
    """Rows of x (who is to move), o and dots as uint8 [2, H, W]."""
    rows = board.split()
    return np.array([[[255 * (cell == kind) for cell in row] for row in rows] for kind in "xo"], np.uint8)


def test_lines_are_all_that_win():
    assert len(TIC_TAC_TOE.lines) == 8 and len(CONNECT_FOUR.lines) == 69
    assert sorted(map(tuple, TIC_TAC_TOE.lines.tolist())) == sorted(
        [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
    )


@BOTH
def test_rules_of_tensors_are_those_of_the_game_itself(rules):
    """Many games at once and one at a time, to their ends."""
    generator, env = np.random.default_rng(0), Board(rules, SELF_PLAY)
    ends = []
    for seed in range(60):
        seen = env.reset(seed=seed)[0]
        over = False
        while not over:
            board = torch.from_numpy(seen)  # [1, 2, H, W]
            legal = rules.legal(board)[0]
            free = env.minimax.moves(env.minimax.stones(seen[0].any(0)))
            assert legal.nonzero().flatten().tolist() == [action for action, _ in free]
            action = int(generator.choice(legal.nonzero().flatten()))
            found = rules.play(board, torch.tensor([action]))
            seen, reward, over, cut, _ = env.step(action)
            assert torch.equal(found[0], torch.from_numpy(seen))
            assert (found[1].item(), found[2].item()) == (reward, over) and not cut
        ends.append(reward)
    assert {0.0, 1.0} >= set(ends) and 1.0 in ends


@BOTH
def test_bits_win_where_lines_do(rules):
    """Also where a row goes on at the other side of the board, and does not."""
    generator, minimax = np.random.default_rng(1), Minimax(rules)
    for _ in range(500):
        stones = generator.random((rules.height, rules.width)) < 0.45
        assert minimax.wins(minimax.stones(stones)) == stones.reshape(-1)[rules.lines].all(-1).any()


def test_positions_are_worth_what_they_are_by_hand():
    minimax = Minimax(TIC_TAC_TOE)

    def worth(board, depth=9, of=minimax):
        return of.value(*map(of.stones, drawn(board)), depth)

    assert worth("... ... ...") == 0  # nobody wins who plays well
    assert worth("xx. oo. ...") == 1 and worth("x.. oo. x..") == 0 and worth("... oo. xo.") == -1
    assert worth("x.. .o. ..x", 0) == 0 and worth("ooo xx. x..") == -1 and worth("xox xoo oxx") == 0
    four = Minimax(CONNECT_FOUR)
    assert worth("....... ....... ....... ....... ....... .xxx...", 1, four) == 1
    assert worth("....... ....... ....... ....... ....... .ooo...", 2, four) == -1  # open on both sides
    assert worth("....... ....... ....... ....... ....... .ooo...", 1, four) == 0  # which one move does not see
    assert worth("....... ....... ....... ....... ....... ooo....", 4, four) == 0  # which can be stopped


def games_against(name, protocol, choose, count, seed=0):
    """Points of so many episodes, and the first boards that were seen."""
    game = game_of(name)
    games = game.make(8, protocol, device="cpu", stack=1)
    step, points, begun = games.reset(seed), [], []
    while len(points) < count:
        begun += [board.clone() for board in step.obs[step.first]]
        step = games.step(choose(game.rules, step))
        points += step.reward[step.last].tolist()
    games.close()
    return points[:count], begun


def at_random(rules, step):
    return torch.multinomial(rules.legal(step.obs[:, 0]).float() + 1e-9, 1)[:, 0]


def test_a_perfect_opponent_never_loses_and_who_begins_is_drawn():
    torch.manual_seed(0)
    points, begun = games_against("board/tic-tac-toe", MINIMAX, at_random, 150)
    assert max(points) == 0 and min(points) == -1
    stones = [int(board.bool().sum()) for board in begun]
    assert set(stones) == {0, 1} and 0.3 < np.mean(stones) < 0.7
    answers = {int(board[0, 1].flatten().argmax()) for board in begun if board.any()}
    assert answers == set(range(9))  # drawn from all that are as good


def test_an_opponent_at_random_is_beaten_by_who_looks_one_move_ahead():
    torch.manual_seed(0)

    def greedy(rules, step):
        board = step.obs[:, 0] * ~step.last.view(-1, 1, 1, 1)  # of a game that is over nothing is asked
        legal = rules.legal(board)
        some = legal.long().argmax(1)
        wins = [rules.play(board, torch.where(legal[:, a], a, some))[1] for a in range(7)]
        score = torch.stack(wins, 1) * legal + torch.rand(8, 7) * 0.5 + legal
        return score.argmax(1)

    assert np.mean(games_against("board/connect-four", RANDOM, greedy, 100)[0]) > 0.3


def test_self_play_pays_the_mover_and_turns_the_board():
    env = Board(TIC_TAC_TOE, SELF_PLAY)
    while env.reset(seed=None)[0].any():
        pass
    seen = [env.step(action)[:3] for action in (0, 3, 1, 4, 2)]
    assert [reward for _, reward, _ in seen] == [0, 0, 0, 0, 1] and [over for *_, over in seen] == [False] * 4 + [True]
    assert np.array_equal(seen[0][0][0], drawn("o.. ... ...")) and np.array_equal(seen[1][0][0], drawn("x.. o.. ..."))


def test_games_with_oneself_begin_after_some_moves_at_random():
    _, begun = games_against("board/tic-tac-toe", SELF_PLAY, at_random, 300)
    stones = [int(board.bool().sum()) for board in begun]
    assert set(stones) == {0, 1, 2, 3, 4}
    assert not any((board[0].flatten(1).bool()[:, TIC_TAC_TOE.lines].all(-1)).any() for board in begun)


@pytest.mark.parametrize("protocol", [SELF_PLAY, RANDOM], ids=lambda protocol: protocol.name)
def test_what_the_rules_forbid_loses(protocol):
    env = Board(CONNECT_FOUR, protocol)
    env.reset(seed=0)
    env.stones[0, :, 2] = [255, 0, 255, 0, 255, 0]
    env.stones[1, :, 2] = [0, 255, 0, 255, 0, 255]
    assert env.step(2)[1:4] == (-1.0, True, False)


def test_a_picture_keeps_the_players_colours():
    env = Board(TIC_TAC_TOE, SELF_PLAY, "rgb_array_list")
    while env.reset(seed=None)[0].any():
        pass
    pictures = []
    for action in (4, 0):
        env.step(action)
        pictures.append(env.render()[-1])
    assert pictures[0].shape == (192, 192, 3)
    centre, corner = (slice(66, 126), slice(66, 126)), (slice(2, 62), slice(2, 62))
    assert np.array_equal(pictures[0][centre], pictures[1][centre])
    assert not np.array_equal(pictures[1][corner][0, 0], pictures[1][centre][0, 0]) and pictures[1][corner].any()
