"""The numbers of a run, epoch by epoch: metrics.jsonl, which is the record, and TensorBoard's files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from tensorboardX import SummaryWriter

from taijitu_training.errors import TrainingError

Row = dict[str, float]


class MetricsLog:
    """Writes each epoch's row to FOLDER/metrics.jsonl and, as scalars, to FOLDER/tensorboard/."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.folder, self.rows = folder, rows
        # purge_step: TensorBoard forgets what a run that died wrote of epochs that are done again.
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=len(rows) + 1)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._board.close()

    def add(self, row: Row) -> None:
        """Append `row`, which has the key "epoch". TrainingError where the disk does not take it."""
        self.rows.append(row)
        temporary = self.folder / ".metrics.jsonl.tmp"
        try:
            # Whole, so that an epoch that is done again after a crash stands in it once.
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            temporary.replace(self.folder / "metrics.jsonl")
            for name, value in row.items():
                if name != "epoch":
                    self._board.add_scalar(name.replace("_", "/", 1), value, int(row["epoch"]))
            self._board.flush()
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: metrics.jsonl could not be written ({error}); make room, then --resume"
            ) from None
