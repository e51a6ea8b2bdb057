"""Single Gymnasium environments as Games: side by side in this process, or in processes of their own.

What plays here shows frames uint8 [1, ...] and, made with render_mode "rgb_array_list", the screens of its
last step: `render()` returns uint8 [height, width, 3] each.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation, TransformObservation

from envs.game import Frame
from envs.games import Games
from envs.protocols import Protocol

TIMEOUT = 300.0  # seconds; what takes longer hangs
PATIENCE = 2.0  # seconds that environments have to end in
MOST_FILES = 8_192
RESEED_AFTER = 10_000  # agent steps: a game of them is played again in seconds


def make_games(
    make_env: Callable[..., gym.Env], num_envs: int, protocol: Protocol, *,
    device: Any = "cpu", stack: int = 1, processes: bool = False, reseed_after: int = RESEED_AFTER,
) -> Games:  # fmt: skip
    """Copies of one environment, their observations uint8 [stack, ...], blank before an episode's first frame.

    Args:
        make_env: takes the protocol.
        processes: one for each copy, with the frames in shared memory: for games that would hold up the others.
        reseed_after: see Games.
    """
    make = partial(make_stacked, make_env, protocol, stack)
    vector = Processes if processes else InProcess
    return Games(lambda: vector([make] * num_envs), device, reseed_after=reseed_after)


def make_stacked(make_env: Callable[..., gym.Env], protocol: Protocol, stack: int) -> gym.Env:
    """One environment whose observations are uint8 [stack, ...].

    Raises:
        ValueError: its frames are not uint8 [1, ...].
    """
    env = make_env(protocol)
    seen = env.observation_space
    if not isinstance(seen, Box) or seen.dtype != np.uint8 or len(seen.shape) < 2 or seen.shape[0] != 1:
        raise ValueError(f"frames must be uint8 [1, ...], such as [1, 3, 64, 64] in colour, and these are {seen}")
    if stack == 1:
        return env
    space = Box(0, 255, (stack, *seen.shape[1:]), np.uint8)
    return TransformObservation(FrameStackObservation(env, stack, padding_type="zero"), lambda x: x[:, 0], space)


class InProcess(SyncVectorEnv):
    """Gymnasium's environments one after the other, in this process."""

    def send(self, actions: np.ndarray) -> None:
        self.sent = actions

    def recv(self) -> Any:
        return self.step(self.sent)


class Processes(AsyncVectorEnv):
    """Gymnasium's environments in processes, of which none is left behind, whatever happens.

    Each is the head of a group of its own, with all that it starts: Ctrl-C does not reach it, and what it has
    started can be ended with it.

    Raises:
        RuntimeError: a game could not begin.
    """

    def __init__(self, env_fns: Any):
        allow_files()
        # Where processes are not forked, each would import torch; those that a server forks have it from there.
        multiprocessing.set_forkserver_preload([__name__])
        method = "fork" if multiprocessing.get_start_method() == "fork" else "forkserver"
        try:
            super().__init__(env_fns, worker=work, context=method)
        except (EOFError, ConnectionError) as error:
            raise RuntimeError("a game could not begin in a process of its own; why, is said above") from error

    def send(self, actions: np.ndarray) -> None:
        self.step_async(actions)

    def recv(self) -> Any:
        return self.step_wait()

    def step_wait(self, timeout: float | None = None) -> Any:
        return super().step_wait(TIMEOUT if timeout is None else timeout)

    def reset_wait(self, timeout: float | None = None) -> Any:
        return super().reset_wait(TIMEOUT if timeout is None else timeout)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        try:
            for process, pipe in zip(self.processes, self.parent_pipes, strict=True):
                if terminate or pipe is None:
                    process.terminate()
                else:
                    with suppress(OSError):  # one that is dead already does not hear it
                        pipe.send(("close", None))
            # Those that are well end what they have started, and its shared memory.
            until = time.monotonic() + (PATIENCE if timeout is None else timeout)
            for process in self.processes:
                process.join(max(until - time.monotonic(), 0))
        finally:
            for process in self.processes:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
                process.kill()
                process.join()
            for pipe in self.parent_pipes:
                if pipe is not None:
                    pipe.close()


def allow_files() -> None:
    """Raises how many files this process may have open: an environment takes three, and macOS grants 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Told(gym.Wrapper):
    """An environment whose errors can be told to another process: as text, for what they hold may not go there."""

    def reset(self, **options: Any) -> Any:
        with self._as_text():
            return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        with self._as_text():
            return self.env.step(action)

    @contextmanager
    def _as_text(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}") from None


def work(index: int, make_env: Callable[[], gym.Env], *args: Any) -> None:
    """What each process does: serves its environment until it is told to end, or nobody is there any more."""
    with suppress(PermissionError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # its parent's handlers are not for it
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # nor what a job's processes hear
        signal.signal(number, signal.SIG_IGN)
    from gymnasium.vector.async_vector_env import _async_worker  # not public: what has no processes does without it

    with suppress(BrokenPipeError, EOFError):
        _async_worker(index, lambda: Told(make_env()), *args)


class GymPicture:
    """See `Picture`: an environment that renders."""

    def __init__(self, make_env: Callable[..., gym.Env], protocol: Protocol):
        self.env = make_env(protocol, render_mode="rgb_array_list")
        self.ended = False

    def reset(self, seed: int | None) -> Frame:
        self.env.reset(seed=seed)
        self.ended = False
        return self._screens()[-1], 0.0

    def act(self, action: int) -> list[Frame]:
        if self.ended:
            return [self.reset(None)]
        _, reward, terminated, truncated, _ = self.env.step(action)
        self.ended = terminated or truncated
        *earlier, newest = self._screens()
        return [*((screen, 0.0) for screen in earlier), (newest, float(reward))]

    def close(self) -> None:
        self.env.close()

    def _screens(self) -> list[np.ndarray]:
        shown = self.env.render()
        if not isinstance(shown, list):
            raise TypeError(f"render() must give a list of the last step's screens, and gives {type(shown).__name__}")
        return shown  # type: ignore[return-value]


def cells(board: np.ndarray, side: int = 16) -> np.ndarray:
    """A board uint8 [C, H, W] as a picture, `side` pixels a cell: a colour for each channel, the last on top."""
    colours = np.array([
        (78, 121, 167), (242, 142, 43), (225, 87, 89), (118, 183, 178), (89, 161, 79),
        (237, 201, 72), (176, 122, 161), (255, 157, 167), (156, 117, 95), (186, 176, 172),
    ], np.uint8)  # fmt: skip
    picture = np.zeros((*board.shape[1:], 3), np.uint8)
    for channel, colour in zip(board, colours, strict=False):
        picture[channel > 0] = colour
    return picture.repeat(side, 0).repeat(side, 1)
