"""Write the numbers of a run, epoch by epoch: metrics.jsonl, the record, and TensorBoard's files next to it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

# Not SummaryWriter, whose thread prints a traceback if the disk is full.
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from taijitu_runtime.errors import WriteError
from taijitu_runtime.files import write_whole

Row = dict[str, float]


class MetricsLog:
    """The log that writes the rows of a run to FOLDER/metrics.jsonl and, as scalars, to FOLDER/tensorboard/.

    WriteError if the disk is full.
    """

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.folder, self.rows = folder, rows
        with self._disk_full_named():
            (folder / "tensorboard").mkdir(exist_ok=True)
            self._board = EventsWriter(str(folder / "tensorboard" / "events"))
            # TensorBoard then drops the values of a run that died for epochs that are done again.
            restart = Event(step=len(rows) + 1, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
            self._board.write_event(restart)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # `write_last` has reported what could not be written
            self._board.close()

    def write_last(self) -> None:
        """Write the last one of `rows`, which has the key "epoch"."""
        row = self.rows[-1]
        with self._disk_full_named():
            # The whole file, so that an epoch that is done again after a crash is in it once.
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
        except OSError as error:
            board = self.folder / "tensorboard"
            raise WriteError(f"{board}: could not be written ({error.strerror}); make room") from None
