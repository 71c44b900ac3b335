"""The activation factory, and the exchange of activations in other people's networks."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from taijitu_runtime.errors import TaijituError, UnknownNameError
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
    """Every name that `act` takes."""
    return sorted(_ACTIVATIONS)


def create_activation(name: str) -> nn.Module:
    """A new module for `name` (see `list_activations`); UnknownNameError with the close names for any other."""
    if name not in _ACTIVATIONS:
        raise UnknownNameError("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]()


def replace_activations(model: nn.Module, name: str) -> int:
    """Put the activation `name` in the place of every one in `model`, in place; returns how many modules it replaced.

    Replaced are this module's activations, ReLU6, LeakyReLU, ELU, and timm's own classes of the same functions. Gates
    (Sigmoid, Hardsigmoid) and learnt activations (PReLU) stay. A module that stands in several places counts once and
    is replaced by one module in all of them. A call in a `forward` (F.relu) cannot be seen from outside and stays as it
    is: `irreplaceable_activations` counts those. TaijituError where nothing was found; UnknownNameError for a name that
    does not exist.
    """
    create_activation(name)
    replaced: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        # Not named_children(), which names a module that stands twice under one parent only once.
        for key, child in parent._modules.items():
            if child is not None and _is_replaceable(child):
                if child not in replaced:
                    replaced[child] = create_activation(name).train(child.training)
                parent._modules[key] = replaced[child]
    if not replaced:
        raise TaijituError(
            f"got a {type(model).__name__} without an activation module, expected at least one; "
            "functional calls such as F.relu in its forward have to be edited by hand"
        )
    return len(replaced)


def _is_replaceable(module: nn.Module) -> bool:
    in_timm = type(module).__module__.startswith("timm.") and type(module).__name__ in _REPLACEABLE_IN_TIMM
    return in_timm or isinstance(module, _REPLACEABLE)


@contextlib.contextmanager
def irreplaceable_activations(model: nn.Module) -> Iterator[Counter[str]]:
    """Count the calls of torch's activation operators that `replace_activations` would leave behind.

        with irreplaceable_activations(model) as calls:
            model(pictures)

    Those are calls in a `forward` (F.relu), and modules that it does not replace (PReLU, SELU). Gates do not count, nor
    does an activation spelt out in other operators: x * sigmoid(x) may be one or the other.
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
    """Counts calls of _OPERATORS, in place or not, except those made between `pause` and `resume`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.calls: Counter[str] = Counter()
        self.paused = 0

    def pause(self, *_: object) -> None:
        self.paused += 1

    def resume(self, *_: object) -> None:
        self.paused -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # relu_ is relu in place, _prelu_kernel all there is below F.prelu, and rrelu_with_noise below F.rrelu.
        name = func.overloadpacket.__name__.strip("_").removesuffix("_kernel").removesuffix("_with_noise")
        if name in _OPERATORS and not self.paused:
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))
