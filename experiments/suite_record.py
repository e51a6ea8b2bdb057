"""What a suite's folder remembers: suite.json, of the newest command and of those before it."""

import dataclasses
import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.files import read_json, write_json
from experiments.matrix import Cell, Spec, cells
from experiments.records import summary


def threads_of(folder: Path, now: int) -> int:
    """Threads of each training, decided once: another number would change the last digits of a continued run."""
    path = folder / "suite.json"
    return int(read_json(path)["threads"]) if path.exists() else now


def remember(folder: Path, facts: dict[str, Any]) -> None:
    """Writes what a suite is gone on with; what earlier commands asked of it stays, under `earlier`.

    Args:
        facts: its file, threads, and the fields of its Spec.
    """
    path = folder / "suite.json"
    begun = read_json(path) if path.exists() else {}
    kept, now = begun.pop("earlier", []), json.loads(json.dumps(facts))
    earlier = [one for one in (*kept, begun) if one and one | {"threads": 0} != now | {"threads": 0}]
    write_json(path, facts | ({"earlier": earlier} if earlier else {}))


def unfinished(folder: Path, planned: list[Cell]) -> list[str]:
    """Runs that are not finished, besides those planned: of earlier commands, even if not begun, and any others."""
    names: set[str] = set()
    with suppress(KeyError, TypeError, ValueError, AttributeError):  # damaged: what the suite came to matters more
        earlier = read_json(folder / "suite.json").get("earlier", [])
        if not any(facts.get("search") for facts in earlier):  # of which the hopeless are never finished
            names |= {path.parent.name for path in folder.glob("*/config.json")}
        for facts in earlier:
            if not facts.get("search"):
                known = {field.name: facts[field.name] for field in dataclasses.fields(Spec) if field.name in facts}
                names |= {cell.name for cell in cells(Spec(**known))}
    names -= {cell.name for cell in planned}
    return sorted(name for name in names if summary(folder / name).get("finished") is not True)


def command_of(folder: Path) -> str:
    """The command that goes on with a suite, but for what it said in the place of the file.

    Raises:
        OSError, ValueError, KeyError, TypeError, RecursionError: the folder has no suite.json, or a damaged one.
    """
    facts, here = read_json(folder / "suite.json"), folder.resolve()
    words = ["highscore", "suite", str(facts["what"])]
    if here.parent != Path("runs").resolve():
        words += ["--runs", str(here.parent)]
    if here.name != Path(facts["what"]).stem:
        words += ["--name", here.name]
    return shlex.join(words) + " --search N" * bool(facts["search"])
