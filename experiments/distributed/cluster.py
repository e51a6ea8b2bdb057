"""A Ray cluster: the one at RAY_ADDRESS, or one started on this machine for as long as it is needed."""

import logging
import os
import warnings
from typing import Any

import torch

from agents.sequence import tree_map
from envs.extras import how_to_install
from experiments.checks import NoRoom
from experiments.files import Failed


class Lost(Failed):
    """A part of a training that cannot be replaced without going back to the checkpoint."""


def import_ray() -> Any:
    """Ray, quiet.

    Raises:
        ValueError: it is not installed; with the command that does.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # on machines that we start: players must not starve at 15
    try:
        import ray
    except ImportError:
        raise ValueError("Ray is not installed: " + how_to_install("ray")) from None
    return ray


def connect(cpus: int) -> Any:
    """Joins the cluster at RAY_ADDRESS, or starts one here; returns Ray.

    Args:
        cpus: processors, as Ray counts them, that are needed.

    Raises:
        ValueError: no cluster answers there, or it has too few processors.
    """
    ray, address = import_ray(), os.environ.get("RAY_ADDRESS", "")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if ray.is_initialized():
        pass
    elif address:
        try:
            ray.init(address, **quiet)
        except ConnectionError as error:
            why = str(error).splitlines()[0]
            raise ValueError(
                f"no Ray cluster answers at {address} ({why:.100}); `ray start --head` starts one"
            ) from None
    else:
        start(ray, cpus, quiet)
    have = ray.cluster_resources().get("CPU", 0)
    if have < cpus:
        raise NoRoom(f"the Ray cluster has {have:.0f} CPUs, and {cpus} players take one each", "lower --players")
    return ray


def start(ray: Any, cpus: int, quiet: dict[str, Any]) -> None:
    """Starts a cluster on this machine, which ends with this process; Ray gives up after 30 s, we after three times.

    Raises:
        ValueError: it did not start.
    """
    for _ in range(3):
        try:
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
            return
        except Exception as error:  # Ray has no narrower one
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    raise ValueError("Ray did not start, three times: the machine is too busy; try again, or --distributed local")


def nodes(ray: Any) -> list[str]:
    """The machines that have processors to give, by Ray's names."""
    return sorted(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))


def on_node(node: str) -> Any:
    """The wish to be placed on a machine, or elsewhere if it is full or gone."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=True)


def get(ray: Any, what: Any) -> Any:
    """What shards answer.

    Raises:
        Lost: a shard is gone, or what it had sent.
        Exception: the shard's own.
    """
    try:
        return ray.get(what)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise Lost(f"a replay shard is gone ({type(error).__name__})") from None


def to_arrays(tree: Any) -> Any:
    """Tensors as NumPy arrays, which travel between processes of one machine without being copied again."""
    return tree_map(lambda x: x.detach().cpu().numpy(), tree)


def to_tensors(tree: Any, device: torch.device | str = "cpu") -> Any:
    """The inverse of `to_arrays`. They may not be written to: other processes have them, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of just that
        return tree_map(lambda x: torch.as_tensor(x).to(device), tree)
