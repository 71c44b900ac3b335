"""Run on several processes, as torchrun starts them; a single process is the special case of one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from taijitu_runtime.errors import TaijituError, UsageError, first_line, one_line
from taijitu_training.errors import TrainingError
from taijitu_training.torchrun import process_count

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of this run: there are `count`, and this one is number `rank`, from 0.

    Methods except `fail` exchange data, so all processes must call them; TrainingError if one is gone.
    """

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def sum_(self, values: Tensor) -> Tensor:
        """Sum `values` over the processes, in place."""
        if self.count > 1:
            with explain_lost_peer():
                dist.all_reduce(values)
        return values

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of `tensors` (of one dtype) by its mean over the processes."""
        if self.count > 1 and tensors:
            flat = self.sum_(torch.cat([tensor.flatten() for tensor in tensors])) / self.count
            for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether `flag` holds in any of the processes."""
        return flag if self.count == 1 else bool(self.sum_(torch.tensor(float(flag), device=device)))

    def first_does(self, do: Callable[[], T]) -> T:
        """Return, in every process, the writing process's result of `do`: for files that only its machine may have."""
        if self.count == 1:
            return do()
        box: list[T | None] = [None]
        return self._agree(lambda: self._fill(box, do), lambda: self._received(box))

    def all_do(self, do: Callable[[], T]) -> T:
        """Return the result of `do`; an error in any process ends all of them, with one message."""
        if self.count == 1:
            return do()
        box: list[T] = []
        return self._agree(lambda: box.append(do()), lambda: box[0])

    def least(self, do: Callable[[], int]) -> int:
        """Return the smallest result of `do` in any of the processes."""
        results = [self.all_do(do)] * self.count
        if self.count > 1:
            with explain_lost_peer():
                dist.all_gather_object(results, results[self.rank])
        return min(results)

    def fail(self, error: TaijituError) -> NoReturn:
        """Raise an error that occurred in every process: the others end without a message."""
        if self.writes:
            raise error
        raise SystemExit(error.exit_code)

    def _fill(self, box: list[T | None], do: Callable[[], T]) -> None:
        if self.writes:
            box[0] = do()

    def _received(self, box: list[T | None]) -> T:
        with explain_lost_peer():
            dist.broadcast_object_list(box)
        result: T = box[0]  # type: ignore[assignment]  # the writing process put it there
        return result

    def _agree(self, do: Callable[[], None], then: Callable[[], T]) -> T:
        mine: Exception | None = None
        try:
            do()
        except Exception as error:  # any: the others would wait for this process, or tell the same
            mine = error
        codes = [0] * self.count
        with explain_lost_peer():
            dist.all_gather_object(codes, 0 if mine is None else getattr(mine, "exit_code", TaijituError.exit_code))
        failed = [rank for rank, code in enumerate(codes) if code]
        if not failed:
            return then()
        if mine is not None and failed[0] == self.rank:
            raise mine
        raise SystemExit(codes[failed[0]])


ALONE = Processes()


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the other processes if torchrun started this one (NCCL on GPUs, otherwise gloo); leave them at the end.

    UsageError where the variables that torchrun sets are incomplete or wrong: job schedulers set some of them too.
    """
    if process_count() == 1:
        yield ALONE
        return
    with explain_lost_peer():
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except ValueError as error:
            raise UsageError(
                f"got WORLD_SIZE={os.environ['WORLD_SIZE']} in the environment, but the other processes cannot be "
                f"found ({one_line(error)}); start it with torchrun, or unset WORLD_SIZE"
            ) from None
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def explain_lost_peer() -> Iterator[None]:
    """Turn the error of a lost connection into a TrainingError that explains it; other errors pass."""
    try:
        yield
    except RuntimeError as error:  # gloo, NCCL and the store raise it and its subclasses, each with its own text
        reason = re.search(r"Connection \w+ by peer|timed? ?out", str(error), re.IGNORECASE)
        if not reason and not isinstance(error, dist.DistError):
            raise
        raise TrainingError(
            "another process of this run ended or cannot be reached "
            f"({reason[0] if reason else first_line(error)}); "
            "if it left a message, correct the cause; then --resume"
        ) from None
