"""The episodes that a run has recorded: all of its training, and those of every evaluation."""

from pathlib import Path
from typing import Any

from envs.recording import Recording
from experiments.run import Run, RunError, read_json, read_rows


def find_episode(run: Run, name: str) -> Recording:
    """A recorded episode by name.

    Args:
        name: the number of a training episode, counted from 1; or EVALUATION/NUMBER, the name of a file in
            evaluations/ and the number of one of its episodes.

    Raises:
        RunError: there is none of that name, or its recording is damaged.
    """
    evaluation, _, number = name.rpartition("/")
    if not number.isdigit():
        raise RunError(f"--episode {name}: a number, such as 12, or EVALUATION/NUMBER, such as 000000250000/3")
    if evaluation:
        file, where = evaluation, of_evaluation(run, evaluation, int(number))
    else:
        file, where = "training", of_training(run, int(number))
    offset, length = where
    try:
        with (run.path / "recordings" / f"{file}.rec").open("rb") as content:
            content.seek(offset)
            return Recording.unpack(content.read(length))
    except (OSError, ValueError) as error:
        raise RunError(f"the recording of episode {name} of {run.path} is damaged: {error}") from None


def of_training(run: Run, number: int) -> tuple[int, int]:
    """(offset, length) of a training episode's recording.

    Raises:
        RunError: there is no such episode.
    """
    last = 0
    for row in read_rows(run.path / "episodes.jsonl"):
        last = row.get("episode", last)
        if last == number:
            return place(row.get("recording"))
    raise RunError(f"{run.path} has recorded training episodes 1 to {last}, and no {number}")


def of_evaluation(run: Run, evaluation: str, number: int) -> tuple[int, int]:
    """(offset, length) of an evaluation episode's recording.

    Raises:
        RunError: there is no such evaluation or episode.
    """
    known = sorted(path.stem for path in (run.path / "evaluations").glob("*.json"))
    if evaluation not in known:  # so that no name leads out of the directory
        raise RunError(f"{run.path} has no evaluation {evaluation!r}; there are {', '.join(known) or 'none yet'}")
    recordings = read_json(run.path / "evaluations" / f"{evaluation}.json").get("recordings", [])
    if not 1 <= number <= len(recordings):
        raise RunError(f"evaluation {evaluation} has recorded {len(recordings)} episodes, and no {number}")
    return place(recordings[number - 1])


def place(where: Any) -> tuple[int, int]:
    """Offset and length, if that is what it is.

    Raises:
        RunError: it is not.
    """
    if not (isinstance(where, list) and len(where) == 2 and all(type(x) is int and x >= 0 for x in where)):
        raise RunError("this episode was not recorded")
    return where[0], where[1]


def training_episodes(path: Path) -> list[dict[str, Any]]:
    """Rows of a run's recorded training episodes, oldest first."""
    return [row for row in read_rows(path / "episodes.jsonl") if "episode" in row]
