"""Frames to a file that every browser plays."""

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import av
import numpy as np

from envs.recording import FRAMES_PER_SECOND, Recording, render

SCALE = 3  # pixels a side for each of the game's: browsers blur what they scale themselves


def write_video(path: Path, frames: Iterable[np.ndarray]) -> int:
    """Encodes uint8 [height, width, 3] frames at 60 a second as H.264; returns how many.

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
                    stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
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


def video_of(recording: Recording, path: Path, max_frames: int | None = None) -> int:
    """Renders a recording into a video file, at most its first `max_frames`; returns the frames written.

    Raises:
        ValueError: the whole episode was played again and its score is not the recorded one.
    """
    score = 0.0

    def frames() -> Iterable[np.ndarray]:
        nonlocal score
        for pixels, reward in islice(render(recording), max_frames):
            score += reward
            yield pixels

    count = write_video(path, frames())
    if (max_frames is None or count < max_frames) and score != recording.score:
        path.unlink()
        raise ValueError(f"played again, the episode scored {score}, not {recording.score}: emulator versions differ")
    return count
