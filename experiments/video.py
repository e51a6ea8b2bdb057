"""Frames to a file that every browser plays."""

import math
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import av
import numpy as np

from envs.library import game_of
from envs.recording import Recording, render

SCALE = 3  # pixels a side for each of the game's: browsers blur what they scale themselves


def write_video(path: Path, frames: Iterable[np.ndarray], frames_per_second: int = 60) -> int:
    """Encodes uint8 [height, width, 3] frames as H.264; returns how many.

    The file appears under its name only when it is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    count = 0
    try:
        with av.open(str(aside), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = None
            for pixels in frames:
                large = np.ascontiguousarray(pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1))
                if stream is None:
                    stream = container.add_stream("libx264", rate=frames_per_second)
                    stream.height, stream.width, stream.pix_fmt = *large.shape[:2], "yuv420p"
                    stream.options = {"crf": "23", "preset": "veryfast"}
                container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
                count += 1
            if stream is not None:
                container.mux(stream.encode())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return count


def video_of(recording: Recording, path: Path, max_seconds: int | None = None) -> float:
    """Renders a recording into a video file, at most its first `max_seconds`; returns its seconds.

    Raises:
        ValueError: the whole episode was played again and its score is not the recorded one.
    """
    score, pace = 0.0, game_of(recording.game).frames_per_second
    max_frames = None if max_seconds is None else max_seconds * pace

    def frames() -> Iterable[np.ndarray]:
        nonlocal score
        for pixels, reward in islice(render(recording), max_frames):
            score += reward
            yield pixels

    count = write_video(path, frames(), pace)
    same = math.isclose(score, recording.score, rel_tol=1e-5, abs_tol=1e-4)  # the recorded one adds up 32-bit numbers
    if (max_frames is None or count < max_frames) and not same:
        path.unlink()
        raise ValueError(f"played again, the episode scored {score}, not {recording.score}: emulator versions differ")
    return count / pace
