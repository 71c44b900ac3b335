"""Processes that decode pictures during the training, with torch's DataLoader."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from taijitu_runtime.datasets.budget import local_processes
from taijitu_runtime.errors import DataError, one_line
from taijitu_runtime.machine import usable_cores
from taijitu_training.data.samples import Decoder, Job
from taijitu_training.errors import TrainingError

CHUNK = 32  # pictures that a process decodes at a time: a large batch keeps all of them busy, and little in flight
MOST = 16  # processes by default


class Workers:
    """`count` processes that decode, started with the first batch and kept; with 0 this process decodes itself.

    Pictures are sent to them one by one, in order: their number changes only the speed.
    """

    def __init__(self, decoder: Decoder, count: int) -> None:
        self.decoder, self.count = decoder, count
        self._loader: DataLoader[Any] | None = None
        self._chunks: Iterable[list[Job]] = ()

    def decoded(self, batches: Iterable[list[Job]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield uint8 (B, H, W, 3) and int64 (B,) on `device` for each of `batches`, which must not be empty.

        DataError names a broken picture. A call ends the one before it.
        """
        lengths: deque[int] = deque()  # in chunks, of the batches in flight

        def chunks() -> Iterator[list[Job]]:
            for batch in batches:
                starts = range(0, len(batch), CHUNK)
                lengths.append(len(starts))
                for start in starts:
                    yield batch[start : start + CHUNK]

        self._chunks = chunks()
        results = self._results(device)
        for first in results:
            parts = [first, *(next(results) for _ in range(lengths.popleft() - 1))]
            images, targets = zip(*parts, strict=True)
            yield torch.cat(images), torch.cat(targets)

    def __iter__(self) -> Iterator[list[Job]]:
        """Return the jobs of the present call: the DataLoader asks for them here, in the training process."""
        return iter(self._chunks)

    def _results(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            with _ends_blocked(), warnings.catch_warnings():
                # More processes than cores are the user's choice: they help where files come over a network.
                warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
                if self._loader is None:
                    self._loader = self._start(pin=device.type == "cuda")
                chunks = iter(self._loader)
            for images, targets in chunks:
                if isinstance(images, str):
                    raise DataError(f"unreadable picture: {images}; repair or remove it")
                yield images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                f"a decoding process ended by itself ({one_line(error)}); give it more memory "
                "(in a container also shared memory: --shm-size=8g), or set --workers lower"
            ) from None

    def _start(self, pin: bool) -> DataLoader[Any]:
        # Forked, but not from this process, which has threads and perhaps CUDA: from one that has only imported the
        # slow packages. Not taijitu itself: that server does not know this process's sys.path, and might find another
        # copy.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "PIL.Image", "simplejpeg"])
        # A generator of its own: the loader would draw from the global one, and a resumed run would differ.
        return DataLoader(
            self.decoder,
            batch_sampler=self,
            num_workers=self.count,
            collate_fn=_stack,
            pin_memory=pin,
            worker_init_fn=_follow_the_parent,
            multiprocessing_context=context if self.count else None,
            persistent_workers=self.count > 0,
            generator=torch.Generator(),
        )


def default_workers() -> int:
    """Return the cores that this process may use, shared with its siblings on this host; at least 1, at most MOST."""
    return max(1, min(MOST, usable_cores() // local_processes()))


def _stack(pictures: list[tuple[NDArray[np.uint8] | str, int]]) -> tuple[Tensor | str, Tensor]:
    targets = torch.tensor([target for _, target in pictures])
    for pixels, _ in pictures:
        if isinstance(pixels, str):
            return pixels, targets
    return torch.from_numpy(np.stack([pixels for pixels, _ in pictures])), targets


@contextmanager
def _ends_blocked() -> Iterator[None]:
    """Block SIGHUP and SIGTERM in the processes that are started here, which inherit that, and delay them in this one.

    A closed terminal and `timeout` send them to every process; this one needs the others to finish its step.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()  # unblocks SIGTERM, which it ignores, after its start
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_the_parent(number: int) -> None:
    # In a group of its own, so that what a terminal or `timeout` sends to the training process's group does not reach
    # it; multiprocessing's own SIGTERM does.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_after_the_parent, daemon=True).start()


def _end_after_the_parent() -> None:
    # torch's loader looks whether its parent is alive, but that is the fork server here, which lives as long as these.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
