"""The numbers of a run, epoch by epoch: metrics.jsonl, which is the record, and TensorBoard's files next to it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

# Not SummaryWriter, whose thread prints a traceback where the disk is full.
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from taijitu_runtime.errors import WriteError
from taijitu_runtime.files import write_whole
from taijitu_training.errors import TrainingError

Row = dict[str, float]


class MetricsLog:
    """Writes each epoch's row to FOLDER/metrics.jsonl and, as scalars, to FOLDER/tensorboard/.

    TrainingError where the disk does not take them.
    """

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.folder, self.rows = folder, rows
        with self._disk_full_named():
            (folder / "tensorboard").mkdir(exist_ok=True)
            self._board = EventsWriter(str(folder / "tensorboard" / "events"))
            # TensorBoard then forgets what a run that died wrote of epochs that are done again.
            restart = Event(step=len(rows) + 1, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
            self._board.write_event(restart)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # what could not be written was said by `add`
            self._board.close()

    def add(self, row: Row) -> None:
        """Append `row`, which has the key "epoch"."""
        self.rows.append(row)
        with self._disk_full_named():
            # Whole, so that an epoch that is done again after a crash stands in it once.
            write_whole(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows).encode())
            for name, value in row.items():
                if name != "epoch":
                    summary = scalar(name.replace("_", "/", 1), value)
                    self._board.write_event(Event(step=int(row["epoch"]), wall_time=time.time(), summary=summary))
            self._board.flush()

    @contextlib.contextmanager
    def _disk_full_named(self) -> Iterator[None]:
        try:
            yield
        except WriteError as error:
            raise TrainingError(f"{error}, then --resume") from None
        except OSError as error:
            raise TrainingError(
                f"{self.folder / 'tensorboard'}: could not be written ({error.strerror}); make room, then --resume"
            ) from None
