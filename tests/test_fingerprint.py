"""A score's fingerprint: complete, and equal exactly where scores are comparable."""

import shutil

import pytest
import torch

from envs.protocols import FLICKER, MACHADO, NATURE
from experiments.build import build_agent
from experiments.files import RunError, write_json
from experiments.fingerprint import NOT_COMPARED, differing, fingerprint, identity, of_result
from experiments.presets import preset
from experiments.run import Run
from experiments.scoring import keep_best, load_best, weights_hash


def make(protocol=MACHADO, **more):
    usual = {"epsilon": 0.001, "episodes": 10, "seeds": [1], "checkpoint": "abc", "commit": "def"}
    return fingerprint(protocol, **(usual | more))


def test_it_has_everything_that_a_score_depends_on():
    assert make().keys() >= {
        "protocol", "sticky_probability", "life_rule", "action_set", "frame_cap", "epsilon", "episodes", "seeds",
        "checkpoint", "commit",
    }  # fmt: skip
    assert make()["sticky_probability"] == 0.25 and make(NATURE)["sticky_probability"] == 0


@pytest.mark.parametrize("change", [{"protocol": NATURE}, {"epsilon": 0.01}, {"episodes": 20}])
def test_other_conditions_are_another_benchmark(change):
    other = make(**change)
    assert identity(other) != identity(make())
    assert set(change) <= differing([make(), other]).keys()


@pytest.mark.parametrize("key", NOT_COMPARED)
def test_seed_weights_and_commit_may_differ(key):
    other = make(**{key: [2] if key == "seeds" else "other"})
    assert identity(other) == identity(make()) and differing([make(), other]) == {}


def test_an_evaluation_written_before_there_were_fingerprints_still_has_one():
    old = {"protocol": "machado", "epsilon": 0.001, "episodes": 10, "seed": 1}
    assert identity(of_result(old)) == identity(make())
    assert of_result({"fingerprint": make(NATURE)}) == make(NATURE)


def test_the_first_fingerprints_did_not_say_that_nothing_flickered():
    first = {key: value for key, value in make().items() if key != "flicker"}
    assert identity(of_result({"fingerprint": first})) == identity(make())
    assert of_result({"fingerprint": make(FLICKER)})["flicker"] == 0.5


def test_the_best_weights_are_kept_and_those_of_a_tie_are_the_first(tmp_path):
    run = Run.create(tmp_path, preset("demo"), "r")
    agent = build_agent(run.experiment, (4, 84, 84), 6, torch.device("cpu"))
    kept = []
    for steps, mean in ((100, 5.0), (200, 9.0), (300, 9.0), (400, 7.0)):
        with torch.no_grad():
            next(agent.online.parameters()).fill_(steps)
        result = {"agent_steps": steps, "frames": 4 * steps, "mean": mean}
        write_json(run.path / f"evaluations/{steps:012d}.json", result)
        if keep_best(run, agent, result):
            kept.append(weights_hash(agent))
    assert len(set(kept)) == 2
    assert load_best(run, agent)["agent_steps"] == 200 and weights_hash(agent) == kept[1]
    write_json(run.path / f"evaluations/{500:012d}.json", result | {"mean": 20.0})  # the disk was full then
    assert keep_best(run, agent, result | {"agent_steps": 600, "mean": 15.0})
    assert not keep_best(run, agent, result | {"agent_steps": 700, "mean": 14.0})
    assert load_best(run, agent)["agent_steps"] == 600
    (run.path / "best/best.json").write_text("{")  # a damaged one ends no training
    assert keep_best(run, agent, result | {"agent_steps": 800, "mean": 14.0})
    (run.path / "best/weights.safetensors").write_bytes(b"spoilt")
    with pytest.raises(RunError, match="damaged"):
        load_best(run, agent)
    assert keep_best(run, agent, result | {"agent_steps": 900, "mean": 1.0})
    assert load_best(run, agent)["agent_steps"] == 900
    shutil.rmtree(run.path / "best")
    with pytest.raises(RunError, match="keeps no best"):
        load_best(run, agent)
