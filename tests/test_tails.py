"""Logs that grow while the dashboard reads them."""

from experiments.dashboard.tails import Tail
from tests.test_dashboard import row


def test_a_sample_has_both_ends_and_what_follows_is_complete(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text("".join(row(i, pad="x" * 400) for i in range(1, 2_001)) + '{"torn')
    tail = Tail(path)
    found = [r["frames"] for r in tail.sample(100)]
    assert found[0] == 10_000 and found[-1] == 20_000_000 and found == sorted(set(found)) and 95 <= len(found) <= 101
    assert tail.fresh() == []
    path.write_text("")
    assert tail.fresh() is None and Tail(tmp_path / "none").sample() == []
