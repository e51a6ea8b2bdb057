"""The episodes that a run has recorded: all of its training, those of every evaluation, and those of people."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envs.recording import Recording
from experiments.choice import shown_of
from experiments.files import RunError, read_json, read_rows
from experiments.lines import episodes_back
from experiments.records import evaluations, last_rows, whole
from experiments.run import Run

PEOPLE = "people"  # the file of their recordings


def find_episode(run: Run, name: str) -> Recording:
    """A recorded episode by name.

    Args:
        name: the number of a training episode, counted from 1; EVALUATION/NUMBER, the name of a file in
            evaluations/ and the number of one of its episodes; or people/NUMBER.

    Raises:
        RunError: there is none of that name, or its recording is damaged.
    """
    evaluation, _, number = name.rpartition("/")
    if not number.isdecimal():
        raise RunError(
            f"--episode {name}: a number, such as 12, EVALUATION/NUMBER, such as 000000250000/3, or people/1"
        )
    if evaluation:
        rows = people_episodes(run.path) if evaluation == PEOPLE else evaluation_episodes(run, evaluation)
        count, mine = len(rows), same_game(rows[: int(number)])
    else:  # of which there may be hundreds of thousands
        known = [whole(row.get("episode")) for row in last_rows(run.path / "episodes.jsonl") if "recording" in row]
        count, mine = max((number or 0 for number in known), default=0), episodes_back(run.path, int(number))
    if not 1 <= int(number) <= count:
        there = f"1 to {count}" if count else "none"
        raise RunError(f"--episode {name}: {run.path} has recorded {there} there")
    try:
        with (run.path / "recordings" / f"{evaluation or 'training'}.rec").open("rb") as file:

            def content(row: dict[str, Any]) -> bytes:
                offset, length = row["recording"]
                file.seek(offset)
                return file.read(length)

            return Recording.unpack(content(next(mine)), lambda: content(next(mine)))
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise RunError(f"the recording of episode {name} of {run.path} is damaged: {error}") from None


def same_game(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The last of some rows, then those of the same game before it, newest first."""
    return (row for row in reversed(rows) if row["game"] == rows[-1]["game"])


def evaluation_episodes(run: Run, evaluation: str) -> list[dict[str, Any]]:
    """A row per recorded episode of an evaluation: which of its games played it, and where its recording is.

    Raises:
        RunError: there is no such evaluation, or its file is damaged.
    """
    known = sorted(path.stem for path in (run.path / "evaluations").glob("*.json"))
    if evaluation not in known:  # so that no name leads out of the directory
        raise RunError(f"{run.path} has no evaluation {evaluation!r}; there are {', '.join(known) or 'none yet'}")
    try:
        result = read_json(run.path / "evaluations" / f"{evaluation}.json")
        pairs = zip(result.get("games", []), result.get("recordings", []), strict=True)
        return [{"game": game, "recording": where} for game, where in pairs]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"evaluation {evaluation} of {run.path} is damaged: {error}") from None


def training_episodes(path: Path) -> list[dict[str, Any]]:
    """Rows of a run's recorded training episodes, oldest first."""
    rows = (row for row in read_rows(path / "episodes.jsonl") if "recording" in row)
    return [row for row in rows if whole(row.get("frames")) is not None and whole(row.get("episode")) is not None]


def people_episodes(path: Path) -> list[dict[str, Any]]:
    """Rows of the episodes in which people played, oldest first."""
    return [row for row in read_rows(path / "recordings" / f"{PEOPLE}.jsonl") if "recording" in row]


def keep_people_episode(run: Run, recording: Recording) -> str:
    """Records an episode in which a person played; returns its name.

    Raises:
        ValueError: it does not begin where its emulator was seeded.
    """
    if recording.begin:
        raise ValueError("an episode of a person must begin where its emulator was seeded")
    where = run.append_bytes(f"recordings/{PEOPLE}.rec", recording.pack())
    row = {
        "game": 0, "score": recording.score, "steps": len(recording.actions), "protocol": recording.protocol.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "recording": where,
    }  # fmt: skip
    run.append(f"recordings/{PEOPLE}.jsonl", row)
    return f"{PEOPLE}/{len(people_episodes(run.path))}"


def progress_episodes(run: Run, count: int) -> list[tuple[str, Recording]]:
    """Recorded episodes from the beginning of a training to its end, each with a label.

    The first is an episode of the training's beginning, the others are from evaluations, of each that with the median
    score, evenly spaced; where there are not enough of those, from the training.

    Raises:
        RunError: nothing is recorded yet.
    """
    training = training_episodes(run.path)
    found: list[tuple[int, str]] = []  # emulator frames, name
    for result in evaluations(run.path):
        if result.get("recordings") and result.get("protocol") == run.experiment.protocol:
            found.append((result["frames"], f"{result['name']}/{shown_of(result)}"))
    found = sorted({frames: (frames, name) for frames, name in found}.values())
    if len(found) < count - 1:
        found = [(row["frames"], str(row["episode"])) for row in training[1:]]
    if not training or not found:
        raise RunError(f"{run.path} has recorded too few episodes for --progress yet")
    chosen = [found[round(i * (len(found) - 1) / max(count - 2, 1))] for i in range(count - 1)]
    names = dict([(training[0]["frames"], "1"), *chosen])
    return [(f"{frames:,} frames", find_episode(run, name)) for frames, name in names.items()]
