"""Frames to a file that every browser plays."""

import os
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from envs.library import game_of
from envs.recording import Recording, render
from envs.screen import SILENCE

SCALE = 3  # pixels a side for each of the game's: browsers blur what they scale themselves


def enlarge(pixels: np.ndarray, scale: int = SCALE) -> np.ndarray:
    """Every pixel of [height, width, ...] as a square of `scale` pixels."""
    return pixels.repeat(scale, axis=1).repeat(scale, axis=0)  # rows last: they are copied whole


def even(picture: np.ndarray) -> np.ndarray:
    """A picture with a black row or column more where its sides are odd: H.264 halves the colours' resolution."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0))) if height % 2 or width % 2 else picture


def write_video(path: Path, frames: Iterable[np.ndarray], frames_per_second: int = 60) -> int:
    """Encodes uint8 [height, width, 3] frames as H.264, enlarged; returns how many.

    The file appears under its name only when it is whole.
    """
    return write_film(path, ((even(enlarge(pixels)), SILENCE) for pixels in frames), frames_per_second)


def write_film(path: Path, frames: Iterable[tuple[np.ndarray, np.ndarray]], rate: int, sound: int = 0) -> int:
    """Encodes frames, uint8 [height, width, 3] of even sides, as H.264 with AAC sound; returns how many.

    The file appears under its name only when it is whole.

    Args:
        frames: each with the samples, uint8 [n], 128 being silence, that sound while it is shown.
        rate: frames a second.
        sound: samples a second; 0 for none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    count = 0
    try:
        with av.open(str(aside), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "23", "preset": "superfast"}
            voice = Voice(container, sound) if sound else None
            for pixels, samples in frames:
                if count == 0:
                    stream.height, stream.width = pixels.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
                if voice is not None:
                    voice.add(samples)
                count += 1
            if count:
                container.mux(stream.encode())
            if voice is not None:
                voice.close()
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return count


class Voice:
    """The sound track of a film: mono AAC at 48 kHz, which every browser plays, whatever the samples' own rate."""

    def __init__(self, container: Any, rate: int):
        self.container, self.rate, self.count = container, rate, 0
        self.stream = container.add_stream("aac", rate=48_000, layout="mono")
        self.resampler = av.AudioResampler(format="fltp", layout="mono", rate=48_000, frame_size=1024)

    def add(self, samples: np.ndarray) -> None:
        """Goes on with uint8 samples [n], of which there may be none."""
        if not len(samples):
            return
        frame = av.AudioFrame.from_ndarray(samples[None], format="u8", layout="mono")
        frame.sample_rate, frame.pts = self.rate, self.count
        self.count += len(samples)
        self._encode(frame)

    def close(self) -> None:
        """Writes what is left."""
        self._encode(None)
        self.container.mux(self.stream.encode(None))

    def _encode(self, frame: Any) -> None:
        for part in self.resampler.resample(frame):
            self.container.mux(self.stream.encode(part))


def video_of(recording: Recording, path: Path, max_seconds: int | None = None) -> float:
    """Renders a recording into a video file, at most its first `max_seconds`; returns its seconds.

    Raises:
        ValueError: the whole episode was played again and its score is not the recorded one.
    """
    pace = game_of(recording.game).pace()
    max_frames = None if max_seconds is None else max_seconds * pace

    def frames() -> Iterable[np.ndarray]:
        score, count = 0.0, 0
        for pixels, reward in islice(render(recording), max_frames):
            score, count = score + reward, count + 1
            yield pixels
        if max_frames is None or count < max_frames:
            recording.check_score(score)

    return write_video(path, frames(), pace) / pace


def could_film(recording: Recording, path: Path, seconds: int, say: Callable[[str], None]) -> bool:
    """As `video_of`, but says what goes wrong, and returns whether nothing did: no training ends for want of a film."""
    try:
        video_of(recording, path, seconds)
    except Exception as error:  # a game that does not repeat itself, an encoder's, a full disk
        say(f"no film {path.name}: {error}")
        return False
    return True
