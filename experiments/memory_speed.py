"""How fast LSTM and GRU learn here: all stretches in one kernel call, against loops that stop for every beginning.

python -m experiments.memory_speed --device cuda --out experiments/evidence/memory/speed-cuda.json
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from envs.timestep import TimeStep
from experiments.build import device_of
from experiments.cli import parse
from experiments.files import write_json
from experiments.options import OptionalPath
from experiments.provenance import provenance
from experiments.speed import timed
from networks.memory import Recurrent, State


class Size(NamedTuple):
    """What one update unrolls."""

    time: int
    batch: int
    inputs: int
    units: int


SIZES = {
    "r2d2": Size(125, 64, 531, 512),
    "r2d2-small": Size(65, 32, 531, 512),
    "ppo-lstm": Size(128, 2, 512, 128),
    "ppo-lstm-128": Size(128, 32, 512, 128),
}
RATES = (0.0, 0.001, 0.03)  # episodes that begin, per step: none; Atari games; short ones


@dataclass(frozen=True)
class MemorySpeed:
    """Times a forward and a backward pass of LSTM and GRU at the sizes of the presets."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one"""
    seconds: float = 1.0
    """to time each for"""
    sizes: tuple[Literal["r2d2", "r2d2-small", "ppo-lstm", "ppo-lstm-128"], ...] = ("r2d2", "r2d2-small", "ppo-lstm")
    """whose updates; ppo-lstm-128 has 128 games"""
    kinds: tuple[Literal["lstm", "gru"], ...] = ("lstm", "gru")
    """what to time"""
    out: OptionalPath = None
    """a JSON file for the figures"""


def by_cell(core: Recurrent, x: Tensor, first: Tensor, state: State) -> Tensor:
    """One cell call per step, which is what most code does; outputs [T, B, F']."""
    cell: Any = (nn.LSTMCell if core.parts == 2 else nn.GRUCell)(x.shape[-1], core.size, device=x.device)
    # The core's own parameters, so that they get the gradient.
    weights: Any = {name.removesuffix("_l0"): p for name, p in core.cell.named_parameters()}
    outputs = []
    for now, begins in zip(x, first, strict=True):
        keep = (~begins).to(x.dtype)[:, None]
        state = tuple(part * keep for part in state)
        given = (now, state if core.parts == 2 else state[0])
        following = torch.func.functional_call(cell, weights, given)
        state = following if core.parts == 2 else (following,)
        outputs.append(state[0])
    return torch.stack(outputs)


def by_row(core: Recurrent, x: Tensor, first: Tensor, state: State) -> Tensor:
    """One kernel call from each row where some episode begins to the next; outputs [T, B, F']."""
    begins = [0, *(torch.nonzero(first[1:].any(1)).flatten() + 1).tolist()]
    outputs = []
    for begin, end in zip(begins, [*begins[1:], len(x)], strict=True):
        keep = (~first[begin]).to(x.dtype)[:, None]
        output, after = core._run(x[begin:end], torch.stack([part * keep for part in state]))
        state = tuple(after)
        outputs.append(output)
    return torch.cat(outputs)


def by_stretch(core: Recurrent, x: Tensor, first: Tensor, state: State) -> Tensor:
    """What the agents do; outputs [T, B, F']."""
    nothing: Any = None
    return core(x, TimeStep(nothing, nothing, nothing, first, nothing, nothing), state)[0]


WAYS: dict[str, Callable[[Recurrent, Tensor, Tensor, State], Tensor]] = {
    "cell by cell": by_cell, "row by row": by_row, "stretches": by_stretch,
}  # fmt: skip


def measure(kind: str, size: Size, rate: float, device: torch.device, seconds: float) -> dict[str, float]:
    """Agent steps a second, forwards and backwards, by each way."""
    torch.manual_seed(0)
    core = Recurrent(kind, size.inputs, 0, size.units).to(device)
    x = torch.randn(size.time, size.batch, size.inputs, device=device)
    first = (torch.rand(size.time, size.batch) < rate).to(device)

    def once(way: Callable[[Recurrent, Tensor, Tensor, State], Tensor]) -> None:
        core.zero_grad()
        way(core, x, first, core.initial_state(size.batch)).sum().backward()
        core.cell.get_parameter("weight_hh_l0").grad.sum().item()  # type: ignore[union-attr]  # waits for the device

    steps = size.time * size.batch
    return {name: steps / timed(partial(once, way), seconds) for name, way in WAYS.items()}


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    options, console = parse(MemorySpeed, args, prog="python -m experiments.memory_speed"), Console()
    device = device_of(options.device)
    table = Table("preset", "memory", "T x B, units", "begin per step", *WAYS, title=f"agent steps/s learned, {device}")
    rows = []
    for name in options.sizes:
        size = SIZES[name]
        for kind in options.kinds:
            for rate in RATES:
                found = measure(kind, size, rate, device, options.seconds)
                rows.append({"preset": name, "memory": kind, "begin_per_step": rate, **size._asdict(), **found})
                shape = f"{size.time} x {size.batch}, {size.units}"
                table.add_row(name, kind, shape, f"{rate:g}", *(f"{speed:,.0f}" for speed in found.values()))
    console.print(table)
    if options.out is not None:
        about = provenance() | {"command": " ".join(["python -m experiments.memory_speed", *args])}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, about | {"device": str(device), "rows": rows})
    return 0


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("memory_speed", sys.argv[1:]))
