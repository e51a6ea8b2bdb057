"""The command that tells what compressed frames take, and cost."""

import json

import pytest

from experiments import compression


def test_what_is_left_of_frames_is_measured_and_a_training_with_them_in_turns(tmp_path, monkeypatch, capsys):
    rates = {"ram": iter((100.0, 120.0, 80.0)), "compressed": iter((90.0, 90.0, 88.0))}
    seen = []

    def process(module, task, what):
        seen.append((task.game, task.storage))
        return {"agent_steps_per_second": next(rates[task.storage])}

    monkeypatch.setattr(compression, "in_a_process_of_its_own", process)
    out = tmp_path / "new" / "out.json"
    options = "--games minatar/breakout --steps 200 --window 2 --rounds 3 --out"
    assert compression.main([*options.split(), str(out)]) == 0
    found = json.loads(out.read_text())["games"]["minatar/breakout"]
    assert found["frame"] == 400 and 20 < found["compressed"] < 120
    assert found["microseconds_to_add"] > 0 and found["microseconds_to_read"] > 0
    assert found["dqn"] == {"ram": [100.0, 120.0, 80.0], "compressed": [90.0, 90.0, 88.0]}
    turns = ["ram", "compressed", "compressed", "ram", "ram", "compressed"]
    assert seen == [("minatar/breakout", storage) for storage in turns]
    assert "0.90 times the steps/s of RAM, in rounds 0.75 to 1.10" in capsys.readouterr().out
    with pytest.raises(ValueError, match="did you mean Pong"):
        compression.main(["--games", "Pongg"])
    for wrong in ("--steps 19", "--window 0", "--rounds -1", "--seconds 0"):
        with pytest.raises(ValueError, match="--steps four windows or more"):
            compression.main(["--games", "minatar/breakout", *wrong.split()])
