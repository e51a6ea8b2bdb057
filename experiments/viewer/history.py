"""What has been shown of one game since its episode began, small enough to keep whole episodes of."""

import zlib
from typing import Any, NamedTuple

import numpy as np
import torch

from envs.scores import human_normalised
from experiments.viewer.explain import memory_norms
from experiments.viewer.pictures import strip
from experiments.viewer.player import Player, Scene


class Shown(NamedTuple):
    """A scene as it is kept.

    Fields: `scene`, its observation and frames left out; `obs`, the observation, packed; `picture`, the frames as a
    PNG, one below the other, and `sound`, as in `Frame`, joined; `facts`, for the page.
    """

    scene: Scene
    obs: bytes
    picture: bytes
    sound: bytes
    facts: dict[str, Any]


class History:
    """A player, and every scene of its present episode.

    Attributes:
        failure: why the episode could not go on, if so.
        tracks: value, reward and doubt (entropy or action gap) per scene; NaN where there is none.
    """

    def __init__(self, player: Player, label: str):
        self.player, self.label, self.failure = player, label, ""
        self.shown: list[Shown] = []
        self.tracks: dict[str, list[float]] = {"value": [], "reward": [], "doubt": []}

    def __len__(self) -> int:
        return len(self.shown)

    @property
    def ended(self) -> bool:
        return self.player.ended or bool(self.failure)

    def start(self, seed: int, epsilon: float) -> None:
        """Begins an episode."""
        scene = self.player.start(seed, epsilon)
        self.failure = ""
        self.shown, self.tracks = [], {name: [] for name in self.tracks}
        self._keep(scene)

    def extend(self, action: int | None) -> None:
        """Plays one agent step; `action` is a person's. What went wrong is told by `failure`."""
        try:
            self._keep(self.player.extend(action))
        except ValueError as error:
            self.failure = str(error)

    def cut(self, cursor: int) -> None:
        """Goes back to a scene; what came after is undone."""
        if cursor < len(self.shown) - 1:
            self.player.return_to(self.scene(cursor), cursor)
            self.shown = self.shown[: cursor + 1]
            self.tracks = {name: track[: cursor + 1] for name, track in self.tracks.items()}

    def scene(self, cursor: int) -> Scene:
        """A scene, with what the agent saw."""
        shown = self.shown[cursor]
        like = shown.scene.step
        pixels = np.frombuffer(zlib.decompress(shown.obs), np.uint8).reshape(self.player.games.observation_shape)
        obs = torch.from_numpy(pixels.copy())[None].to(like.reward.device)
        return shown.scene._replace(step=like._replace(obs=obs))

    def _keep(self, scene: Scene) -> None:
        facts = facts_of(self.player, self.label)
        obs = zlib.compress(scene.step.obs.cpu().numpy().tobytes(), 1)
        small = scene._replace(step=scene.step._replace(obs=scene.step.reward), frames=[])
        sound = b"".join(frame.sound.tobytes() for frame in scene.frames)
        self.shown.append(Shown(small, obs, strip([frame.pixels for frame in scene.frames]), sound, facts))
        self.tracks["value"].append(float("nan") if scene.view is None else scene.view.value)
        self.tracks["reward"].append(float(scene.step.reward[0]))
        self.tracks["doubt"].append(float("nan") if scene.view is None else scene.view.doubt[1])


def facts_of(player: Player, label: str) -> dict[str, Any]:
    """What the page says about a player's present scene."""
    scene, log = player.scene, player.games.logs[0].actions
    height, width = scene.frames[0].pixels.shape[:2]
    facts: dict[str, Any] = {
        "label": label, "score": scene.score, "normalised": human_normalised(player.game, scene.score),
        "lives": scene.lives, "reward": float(scene.step.reward[0]), "frames": len(scene.frames), "width": width,
        "height": height, "last": scene.last, "taken": scene.taken, "action": scene.action,
        "played": log[-1] if log and not bool(scene.step.first[0]) else None,
    }  # fmt: skip
    if (view := scene.view) is not None:
        name, doubt = view.doubt
        facts |= {
            "values": None if view.values is None else view.values.tolist(),
            "policy": None if view.policy is None else view.policy.tolist(),
            "value": view.value, "doubt": doubt, "doubt_name": name,
            "memory": memory_norms(scene.state, scene.next_state),
        }  # fmt: skip
    return facts
