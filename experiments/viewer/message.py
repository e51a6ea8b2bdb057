"""A moment of the show as bytes for the pages."""

import json
import math
import struct
from typing import Any, NamedTuple

from experiments.viewer import explain
from experiments.viewer.pictures import heat, mosaic, png, stacked


class Message(NamedTuple):
    """One moment; every page adds to it what it lacks of the time line.

    Fields: `header`, JSON-able; `pictures`, in the order in which the header names them; `episode`, changes when
    the time line is no longer a continuation; `tracks`, as in `History`, of the first game.
    """

    header: dict[str, Any]
    pictures: list[bytes]
    episode: int
    tracks: dict[str, list[float]]

    def pack(self, have: int, most: int = 40_000) -> tuple[bytes, int]:
        """The bytes for a page that has `have` points of the time line; how many it has then.

        Four bytes, big-endian, say how long the JSON is that follows; then come the pictures.
        """
        length = min(len(track) for track in self.tracks.values())
        until = min(length, have + most)
        part = {name: [number(x) for x in track[have:until]] for name, track in self.tracks.items()}
        header = self.header | {"track": {"from": have, **part}}
        text = json.dumps(header, allow_nan=False).encode()
        return b"".join([struct.pack(">I", len(text)), text, *self.pictures]), until


def line_of(error: Exception) -> str:
    """An error in a line."""
    return str(error).partition("\n")[0][:200] or type(error).__name__


def number(x: float) -> float | None:
    """A number as JSON has it, with five digits; None for what is none."""
    return float(f"{x:.5g}") if math.isfinite(x) else None


def clean(facts: Any) -> Any:
    """Facts with every number as JSON has it."""
    if isinstance(facts, float):
        return number(facts) if not facts.is_integer() else facts
    if isinstance(facts, dict):
        return {name: clean(value) for name, value in facts.items()}
    return [clean(value) for value in facts] if isinstance(facts, list | tuple) else facts


def message_of(show: Any, still: bool) -> Message:
    """What a Show shows now."""
    pictures: list[bytes] = []
    names: list[dict[str, Any]] = []

    def add(name: str, content: bytes) -> None:
        names.append({"name": name, "size": len(content)})
        pictures.append(content)

    lanes = []
    for i, lane in enumerate(show.lanes):
        shown, over = lane.shown[min(show.cursor, len(lane) - 1)], show.cursor >= len(lane)
        lanes.append(shown.facts | ({"reward": 0.0, "over": True} if over else {}))  # it ended while others go on
        add(f"screen{i}", shown.picture)
        if i == 0:
            add("sound", b"" if over else shown.sound)
    first = show.lanes[0]
    player, wishes = first.player, show.wishes
    scene = first.scene(min(show.cursor, len(first) - 1), wishes.saliency != "off" or wishes.features)
    add("input", png(stacked(scene.step.obs[0])))
    header = {
        "kind": show.kind, "game": player.game, "protocol": player.protocol.name,
        "preset": show.source.experiment.preset, "stack": len(scene.step.obs[0]),
        "seed": wishes.seed, "epsilon": wishes.epsilon,
        "checkpoint": wishes.checkpoint, "checkpoints": list(show.source.checkpoints), "paused": wishes.paused,
        "speed": wishes.speed, "saliency": wishes.saliency, "features": wishes.features, "note": show.note,
        "tally": show.tally, "episode": show.episode, "cursor": show.cursor, "length": show.edge + 1, "still": still,
        "ended": all(lane.ended for lane in show.lanes), "actions": player.screen.action_names,
        "fps": player.screen.frames_per_second, "skip": player.screen.frames_per_step, "lanes": clean(lanes),
    }  # fmt: skip
    if player.agent is not None:
        header |= {"worth": explain.worth(player.agent.algorithm)} | _explained(player.agent, scene, wishes, add)
    header["pictures"] = names
    return Message(header, pictures, show.episode, first.tracks)


def _explained(agent: Any, scene: Any, wishes: Any, add: Any) -> dict[str, Any]:
    """What is asked for beyond the facts of every scene."""
    more: dict[str, Any] = {}
    if scene.view.spread is not None:
        low, high, weight = explain.histogram(scene.view.spread)
        more["spread"] = clean({"low": low, "high": high, "p": weight.tolist()})
    if wishes.saliency == "gradient":
        add("saliency", png(heat(explain.gradient_saliency(agent, scene.step, scene.state, scene.action))))
    elif wishes.saliency == "perturbation":
        add("saliency", png(heat(explain.perturbed(agent, scene.step, scene.state))))
    if wishes.features:
        add("features", png(mosaic(explain.feature_maps(agent.acting, scene.step, scene.state))))
    return more
