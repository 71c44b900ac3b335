"""Create activations by name, and replace those of other libraries' networks."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from taijitu_runtime.errors import UnknownNameError, UsageError
from taijitu_training.models.nish_activation import Nish, nish

__all__ = [
    "Nish",
    "create_activation",
    "irreplaceable_activations",
    "list_activations",
    "nish",
    "replace_activations",
]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "nish": Nish,
}

_REPLACEABLE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Mish, nn.Hardswish, Nish)

# timm's own classes (timm.layers.activations and activations_me) by name: training does not need timm.
_REPLACEABLE_IN_TIMM = {
    *("Swish", "Mish", "HardSwish", "HardMish", "GELU", "GELUTanh", "QuickGELU"),
    *("SwishMe", "MishMe", "HardSwishMe", "HardMishMe"),
}

# torch's operators for activations; F.relu6 is a hardtanh, F.selu and F.celu are an elu.
_OPERATORS = {"relu", "hardtanh", "leaky_relu", "elu", "silu", "gelu", "mish", "hardswish", "prelu", "rrelu"}


def list_activations() -> list[str]:
    """Return every name that `act` takes."""
    return sorted(_ACTIVATIONS)


def create_activation(name: str) -> nn.Module:
    """Create a new module for `name` (see `list_activations`); UnknownNameError with the close names for any other."""
    if name not in _ACTIVATIONS:
        raise UnknownNameError("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]()


def replace_activations(model: nn.Module, name: str) -> int:
    """Replace every activation of `model` by the activation `name`, in place; return how many modules were replaced.

    Replaced are this module's activations, ReLU6, LeakyReLU, ELU, and timm's own classes of the same functions. Gates
    (Sigmoid, Hardsigmoid) and learnt activations (PReLU) stay. A module that occurs several times counts once and
    is replaced by one module everywhere. A call in a `forward` (F.relu) cannot be seen from outside and is not
    replaced: `irreplaceable_activations` counts those. UsageError if nothing was found; UnknownNameError for a name
    that does not exist.
    """
    create_activation(name)
    replaced: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        # Not named_children(), which names a module that occurs twice under one parent only once.
        for key, child in parent._modules.items():
            if child is not None and _is_replaceable(child):
                if child not in replaced:
                    replaced[child] = create_activation(name).train(child.training)
                parent._modules[key] = replaced[child]
    if not replaced:
        raise UsageError(
            f"got a {type(model).__name__} without an activation module, expected at least one; "
            "functional calls such as F.relu in its forward have to be edited by hand"
        )
    return len(replaced)


def _is_replaceable(module: nn.Module) -> bool:
    in_timm = type(module).__module__.startswith("timm.") and type(module).__name__ in _REPLACEABLE_IN_TIMM
    return in_timm or isinstance(module, _REPLACEABLE)


@contextlib.contextmanager
def irreplaceable_activations(model: nn.Module) -> Iterator[Counter[str]]:
    """Count the calls of torch's activation operators that `replace_activations` would not replace.

        with irreplaceable_activations(model) as calls:
            model(pictures)

    Those are calls in a `forward` (F.relu), and modules that it does not replace (PReLU, SELU). Gates do not count, nor
    does an activation written out in other operators: x * sigmoid(x) may be one or the other.
    """
    count = _OperatorCount()
    inside = [module for module in model.modules() if _is_replaceable(module)]
    hooks = [module.register_forward_pre_hook(count.pause) for module in inside]
    hooks += [module.register_forward_hook(count.resume) for module in inside]
    try:
        with count:
            yield count.calls
    finally:
        for hook in hooks:
            hook.remove()


class _OperatorCount(TorchDispatchMode):
    """A counter of calls of _OPERATORS, in place or not, except those made between `pause` and `resume`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.calls: Counter[str] = Counter()
        self.paused = 0

    def pause(self, *_: object) -> None:
        self.paused += 1

    def resume(self, *_: object) -> None:
        self.paused -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # relu_ is relu in place; F.prelu is only _prelu_kernel, and F.rrelu is rrelu_with_noise.
        name = func.overloadpacket.__name__.strip("_").removesuffix("_kernel").removesuffix("_with_noise")
        if name in _OPERATORS and not self.paused:
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))
