"""What a suite's file stands for."""

import pytest

from experiments.matrix import cells, make_spec, parse_seeds, read_spec
from experiments.presets import changes
from experiments.suite import Suite, spec_of
from experiments.suite_checks import experiment_of


@pytest.mark.parametrize(
    "name, content",
    [
        ("s.toml", 'agents = ["dqn"]\ngames = "dev"\nseeds = "0-1"\n[grid]\n"algorithm.n-steps" = [1, 3]\n'),
        ("s.yaml", 'agents: [dqn]\ngames: dev\nseeds: 0-1\ngrid:\n  algorithm: {n_steps: "1,3"}\n'),
        ("s.py", 'import os\nagents, games, seeds = "dqn", "dev", [0, 1]\ngrid = {"algorithm.n-steps": [1, 3]}\n'),
    ],
)
def test_a_suite_is_the_same_in_every_format(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found = cells(make_spec(read_spec(str(tmp_path / name))))
    assert len(found) == 4 * 2 * 2 and len({cell.name for cell in found}) == 16
    assert found[0].seed == found[7].seed == 0 and found[8].seed == 1  # every agent on every game before the next seed
    names = {cell.name for cell in found}
    assert "dqn-n-steps3-Pong-s1" in names or "dqn-n_steps3-Pong-s1" in names
    assert len({cell.group for cell in found}) == 8  # seeds share a group


@pytest.mark.parametrize(
    "given, seeds", [("0-4", [0, 1, 2, 3, 4]), ("3", [3]), ("0,2", [0, 2]), ([1, 2], [1, 2]), (5, [5])]
)
def test_seeds(given, seeds):
    assert parse_seeds(given) == seeds


ABLATION = """
agents = ["rainbow", "no-double"]
games = ["Pong"]
seeds = "1"
[settings]
frames = "2M"
algorithm.double = true
[variants.no-double]
preset = "rainbow"
algorithm.double = false
[variants.unused]
preset = "dqn"
"""


def test_a_variant_is_a_preset_with_settings_and_a_name_of_its_own(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(ABLATION)
    whole, part = cells(spec_of(Suite(str(path))))
    assert [whole.name, part.name, part.group] == ["rainbow-Pong-s1", "no-double-Pong-s1", "no-double/Pong"]
    assert [experiment_of(cell).agent for cell in (whole, part)] == ["rainbow", "no-double"]
    assert changes(experiment_of(whole)) == {"frames": [200_000_000, 2_000_000]}
    assert changes(experiment_of(part)) == {"frames": [200_000_000, 2_000_000], "algorithm.double": [True, False]}
    assert part.arguments[:5] == ["rainbow", "--game", "Pong", "--seed", "1"]
    grid = cells(spec_of(Suite(str(path), agents=("no-double",), grid=("algorithm.n-steps=1,3",))))
    assert [cell.name for cell in grid] == ["no-double-n-steps1-Pong-s1", "no-double-n-steps3-Pong-s1"]
    assert [experiment_of(cell).algorithm.n_steps for cell in grid] == [1, 3]


@pytest.mark.parametrize(
    "variants, words",
    [
        ({"a": {"algorithm.double": False}}, "of which preset"), ("a", "a table of tables"), ({"a": 1}, "of flags"),
        ({"a": {"preset": "dqn", "seed": 3}}, r"variants.a\] seed.*--seeds"),
        ({"a": {"preset": "dqn", "variant": "b"}}, r"write \[variants.NAME\]"),
    ],
)  # fmt: skip
def test_variants_that_make_no_sense(variants, words):
    with pytest.raises(ValueError, match=words):
        make_spec({"agents": "a", "games": "Pong", "variants": variants})


def test_a_search_takes_the_numbers_that_yaml_takes_for_text(tmp_path):
    search = "optimiser.learning-rate: {low: 1e-5, high: 1e-3, log: true}"
    (tmp_path / "s.yaml").write_text(f"agents: dqn\ngames: Pong\nsearch:\n  {search}\n")
    spec = make_spec(read_spec(str(tmp_path / "s.yaml")))
    assert spec.search == {"optimiser.learning-rate": {"low": 1e-5, "high": 1e-3, "log": True}}
    with pytest.raises(ValueError, match="low < high"):
        make_spec({"agents": "dqn", "games": "Pong", "search": {"x": {"low": "few", "high": 3}}})
