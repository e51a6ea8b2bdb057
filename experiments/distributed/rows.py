"""The rows of several replays on disk: a folder for each."""

from pathlib import Path
from typing import Any

from agents.shards import Shards
from experiments.segments import DamagedRows, Segments


class ShardSegments:
    """As `Segments`, for all shards of a replay.

    Args:
        folder: made if it does not exist; nobody else writes there.
    """

    def __init__(self, folder: Path, count: int):
        folder.mkdir(exist_ok=True)
        self.parts = [Segments(folder / str(i)) for i in range(count)]

    def write(self, shards: Shards) -> dict[str, Any]:
        """Appends the rows added since the last call; returns a manifest of all that the shards hold.

        Raises:
            OSError: the disk is full; the manifests returned before still hold.
        """
        return {"shards": [part.write(shard) for part, shard in zip(self.parts, shards.shards, strict=True)]}

    def read(self, shards: Shards, manifest: dict[str, Any]) -> None:
        """Fills the shards with the rows of a manifest, and cuts off what was written after it.

        Raises:
            DamagedRows: a file is missing, short, or not what was written.
        """
        if len(manifest["shards"]) != len(self.parts):
            raise DamagedRows("the manifest is not that of so many shards")
        for part, shard, own in zip(self.parts, shards.shards, manifest["shards"], strict=True):
            part.read(shard, own)

    def forget(self, manifests: list[dict[str, Any]]) -> None:
        """Removes the files that none of these manifests, and no later one, needs."""
        for i, part in enumerate(self.parts):
            part.forget([manifest["shards"][i] for manifest in manifests])
