"""What has been shown of one game since its episode began, small enough to keep whole episodes of."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.sequence import tree_leaves
from envs.scores import human_normalised
from envs.timestep import TimeStep
from experiments.viewer.explain import memory_norms
from experiments.viewer.message import line_of
from experiments.viewer.pictures import strip
from experiments.viewer.player import Player, Scene

MEMORY_BYTES = 500_000_000  # of what an agent remembered in one episode, at most


class Shown(NamedTuple):
    """A scene as it is kept.

    Fields: `scene`, its observation, memory and frames left out; `obs`, the observation, packed; `picture`, the frames
    as a PNG, one below the other, and `sound`, as in `ScreenFrame`, joined; `facts`, for the page.
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
        memories: the agent's before every so many scenes, `every`; the others are computed again when they are needed.
    """

    def __init__(self, player: Player, label: str):
        self.player, self.label, self.failure = player, label, ""
        self.shown: list[Shown] = []
        self.tracks: dict[str, list[float]] = {"value": [], "reward": [], "doubt": []}
        self.memories: dict[int, Any] = {}
        self.every, self._recalled = 1, (-1, ())

    def __len__(self) -> int:
        return len(self.shown)

    @property
    def ended(self) -> bool:
        return self.player.ended or bool(self.failure)

    def start(self, seed: int, epsilon: float) -> None:
        """Begins an episode."""
        with self._kept_from_going_on():
            scene = self.player.start(seed, epsilon)
            self.failure = ""
            self.shown, self.tracks = [], {name: [] for name in self.tracks}
            self.memories, self.every, self._recalled = {}, 1, (-1, ())
            self._keep(scene)

    def extend(self, action: int | None) -> None:
        """Plays one agent step; `action` is a person's. That a recording went another way is told by `failure`."""
        with suppress(ValueError), self._kept_from_going_on():
            self._keep(self.player.extend(action))

    def cut(self, cursor: int) -> None:
        """Goes back to a scene; what came after is undone."""
        if cursor < len(self.shown) - 1:
            scene = self.scene(cursor)
            with self._kept_from_going_on():
                self.player.return_to(scene, cursor)
            self.failure = ""
            self.shown = self.shown[: cursor + 1]
            # What `scene` has just recalled comes no later than after the cursor.
            self.memories = {t: memory for t, memory in self.memories.items() if t <= cursor}
            self.tracks = {name: track[: cursor + 1] for name, track in self.tracks.items()}

    @contextmanager
    def _kept_from_going_on(self) -> Iterator[None]:
        """What fails here has left the game elsewhere than in the newest scene: nothing is played on from there."""
        try:
            yield
        except Exception as error:
            self.failure = line_of(error)
            raise

    def scene(self, cursor: int, memory: bool = True) -> Scene:
        """A scene, with what the agent saw and, if asked for, remembered."""
        shown = self.shown[cursor]
        scene = shown.scene._replace(step=self._step(cursor))
        if not memory:
            return scene
        return scene._replace(state=self.memory(cursor), next_state=self.memory(cursor + 1))

    def memory(self, cursor: int) -> Any:
        """The agent's before a scene, or after the last one."""
        if cursor == len(self.shown):
            return self.player.scene.next_state
        if cursor in self.memories:
            return self.memories[cursor]
        known = cursor - cursor % self.every
        state = self.memories[known]
        if known < self._recalled[0] <= cursor:
            known, state = self._recalled
        state = self.player.recall((self._step(t) for t in range(known, cursor)), state)
        self._recalled = cursor, state
        return state

    def _step(self, cursor: int) -> TimeStep:
        shown = self.shown[cursor]
        like = shown.scene.step
        pixels = np.frombuffer(zlib.decompress(shown.obs), np.uint8).reshape(self.player.games.observation_shape)
        obs = torch.from_numpy(pixels.copy())[None].to(like.reward.device)
        return like._replace(obs=obs)

    def _keep(self, scene: Scene) -> None:
        facts = facts_of(self.player, self.label)
        obs = zlib.compress(scene.step.obs.cpu().numpy().tobytes(), 1)
        self._remember(scene.state)
        small = scene._replace(step=scene.step._replace(obs=scene.step.reward), state=(), next_state=(), frames=[])
        sound = b"".join(frame.sound.tobytes() for frame in scene.frames)
        self.shown.append(Shown(small, obs, strip([frame.pixels for frame in scene.frames]), sound, facts))
        self.tracks["value"].append(float("nan") if scene.view is None else scene.view.value)
        self.tracks["reward"].append(float(scene.step.reward[0]))
        self.tracks["doubt"].append(float("nan") if scene.view is None else scene.view.doubt[1])

    def _remember(self, state: Any) -> None:
        if len(self.shown) % self.every:
            return
        self.memories[len(self.shown)] = state
        size = sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(state))
        if size * len(self.memories) > MEMORY_BYTES:
            self.every *= 2
            self.memories = {t: memory for t, memory in self.memories.items() if t % self.every == 0}


def facts_of(player: Player, label: str) -> dict[str, Any]:
    """What the page says about a player's present scene; how it compares with a human's once it is a whole episode."""
    scene, log = player.scene, player.games.logs[0].actions
    height, width = scene.frames[0].pixels.shape[:2]
    facts: dict[str, Any] = {
        "label": label, "score": scene.score,
        "normalised": human_normalised(player.game, scene.score) if scene.last else None,
        "lives": scene.lives, "reward": float(scene.step.reward[0]), "frames": len(scene.frames), "width": width,
        "height": height, "last": scene.last, "taken": scene.taken, "action": scene.action, "person": player.person,
        "played": log[-1] if log and not bool(scene.step.first[0]) else None,
    }  # fmt: skip
    if (view := scene.view) is not None:
        name, doubt, most = view.doubt
        facts |= {
            "values": None if view.values is None else view.values.tolist(),
            "policy": None if view.policy is None else view.policy.tolist(),
            "value": view.value, "doubt": doubt, "doubt_name": name, "doubt_most": most,
            "plan": [player.screen.action_names[action] for action in view.plan],
            "memory": memory_norms(scene.state, scene.next_state),
        }  # fmt: skip
    return facts
