"""Nish in value, gradient, types and layouts, fused and not; and the replacement of activations in other networks."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taijitu_runtime.errors import TaijituError, UnknownNameError
from taijitu_training.models import create_activation, list_activations, nish, nish_activation, replace_activations
from taijitu_training.models.nish_activation import FUSED_FROM, Nish

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Relative rounding of the three that networks train in.
ROUNDING = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def expected(x: float) -> tuple[float, float]:
    """Compute value and slope of Eq. 3 in Python floats."""
    if math.isnan(x) or x >= 0:
        return x, x if math.isnan(x) else 1.0
    if x < -700:
        return 0.0, 0.0
    s = 1 / (1 + math.exp(-x))
    return s * (x + math.sin(x)), s * (1 - s) * (x + math.sin(x)) + s * (1 + math.cos(x))


def value_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = nish(leaf)
    value.backward(torch.ones_like(value))
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def count_fused_passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the formula's name with each fused pass."""
    passes: list[str] = []
    original = nish_activation._fused_pass

    def counted(formula: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        passes.append(formula.__name__)
        return original(formula, *tensors)

    monkeypatch.setattr(nish_activation, "_fused_pass", counted)
    return passes


def test_the_paper_s_reference_values() -> None:
    x = torch.tensor([-1.0, -3.0, -5.0, -10.0, -1.08287], dtype=torch.float64)
    value, slope = value_and_slope(x)
    assert value.tolist() == pytest.approx([-0.495248, -0.148970, -0.0270463, -0.00042928, -0.49737], abs=5e-6)
    assert slope[0].item() == pytest.approx(0.052196, abs=1e-6)
    assert slope[4].item() == pytest.approx(0, abs=1e-5), "the minimum"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_value_and_slope_at_the_edges(dtype: torch.dtype) -> None:
    points = [0.0, -0.0, 1e-30, -1e-30, 30.0, -30.0, 1e4, -1e4, math.inf, -math.inf, math.nan]
    x = torch.tensor(points, dtype=dtype)
    value, slope = value_and_slope(x)
    assert value.dtype == slope.dtype == dtype
    for point, v, s in zip(x.tolist(), value.tolist(), slope.tolist(), strict=True):
        right_value, right_slope = torch.tensor(expected(point), dtype=dtype).tolist()
        assert v == pytest.approx(right_value, rel=1e-5, nan_ok=True), f"nish({point})"
        assert s == pytest.approx(right_slope, rel=1e-5, nan_ok=True), f"nish'({point})"


def test_value_and_slope_between_the_edges() -> None:
    x = torch.linspace(-40, 40, 4001, dtype=torch.float64)
    right = torch.tensor([expected(point) for point in x.tolist()], dtype=torch.float64)
    for dtype, rounding in ROUNDING.items():
        rounded = torch.tensor([expected(point) for point in x.to(dtype).tolist()], dtype=torch.float64)
        value, slope = value_and_slope(x.to(dtype))
        torch.testing.assert_close(value.double(), rounded[:, 0], rtol=rounding, atol=1e-7)
        torch.testing.assert_close(slope.double(), rounded[:, 1], rtol=rounding, atol=rounding)
    torch.testing.assert_close(value_and_slope(x), (right[:, 0], right[:, 1]), rtol=1e-12, atol=1e-14)


def test_gradients_agree_with_finite_differences() -> None:
    x = torch.tensor([-104.5, -20.0, -5.0, -1.1, -0.5, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(nish, x)
    assert torch.autograd.gradgradcheck(nish, x)


def test_only_the_input_is_kept_for_backward() -> None:
    x = torch.randn(4, 8, requires_grad=True)
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        nish(x)
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_fused_equals_eager(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (3, 8, 56, 57)
    assert math.prod(shape) >= FUSED_FROM
    plain = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype) * 4
    plain.view(-1)[:7] = torch.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0, -1e4, 1e4]).to(dtype)
    layouts = {
        "contiguous": plain,
        "channels_last": plain.to(memory_format=torch.channels_last),
        "transposed": plain.transpose(2, 3),
        "every other channel": plain.repeat_interleave(2, 1)[:, ::2],
    }
    passes = count_fused_passes(monkeypatch)
    fused = {name: value_and_slope(x) for name, x in layouts.items()}
    assert nish_activation._fusion_works, "torch.compile failed; this test needs a C++ compiler"
    assert len(passes) == 6, "forward and backward of all but the transposed one, which is not contiguous in any format"
    monkeypatch.setattr(nish_activation, "_fusion_works", False)
    for name, x in layouts.items():
        for got, right in zip(fused[name], value_and_slope(x), strict=True):
            torch.testing.assert_close(got, right, rtol=ROUNDING[dtype], atol=ROUNDING[dtype], equal_nan=True)


def test_only_large_training_tensors_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = count_fused_passes(monkeypatch)
    nish(torch.randn(FUSED_FROM - 1, requires_grad=True)).sum().backward()
    nish(torch.randn(FUSED_FROM))
    with torch.no_grad():
        nish(2 * torch.randn(FUSED_FROM, requires_grad=True))
    with torch.inference_mode():
        nish(torch.randn(FUSED_FROM))
    assert passes == []
    nish(torch.randn(FUSED_FROM, requires_grad=True)).sum().backward()
    assert passes == ["_value", "_gradient"]


def test_new_shapes_and_layouts_do_not_compile_again() -> None:
    sizes = [(64, 32, 32), (48, 56, 56), (7, 101, 103), (1, 300, 300), (65536, 1, 1)]

    def step(shape: tuple[int, ...], layout: torch.memory_format) -> None:
        value_and_slope(torch.randn(2, *shape).to(memory_format=layout))

    step((40, 40, 40), torch.contiguous_format)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for size in sizes:
        step(size, torch.contiguous_format)
        step(size, torch.channels_last)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


def test_the_output_of_a_fused_pass_may_be_changed_in_place() -> None:
    x = torch.randn(FUSED_FROM, requires_grad=True)
    y = nish(x)
    y += 1
    y.mul_(2).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * value_and_slope(x)[1])


def test_a_gradient_of_another_layout() -> None:
    x = torch.randn(2, 16, 48, 48).to(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(2, 16, 48, 48)
    nish(x).backward(grad)
    torch.testing.assert_close(x.grad, grad * value_and_slope(x)[1])


def test_second_derivatives_of_a_large_tensor() -> None:
    x = torch.full((FUSED_FROM,), -1.0, requires_grad=True)
    (slope,) = torch.autograd.grad(nish(x).sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x)
    step = 1e-5
    right = (expected(-1 + step)[1] - expected(-1 - step)[1]) / (2 * step)
    assert bend[0].item() == pytest.approx(right, rel=1e-4)


def test_in_autocast_a_network_trains_in_bfloat16() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 16, 3, padding=1)
    x = torch.randn(2, 3, 48, 48)
    with torch.autocast("cpu", torch.bfloat16):
        y = nish(conv(x))
    y.float().square().mean().backward()
    assert y.dtype == torch.bfloat16
    assert conv.weight.grad is not None
    mixed, conv.weight.grad = conv.weight.grad.clone(), None
    nish(conv(x)).square().mean().backward()
    torch.testing.assert_close(mixed, conv.weight.grad, rtol=0.05, atol=0.01)


def test_in_torch_compile_as_one_graph() -> None:
    x = torch.randn(FUSED_FROM)
    x[:3] = torch.tensor([math.inf, -math.inf, math.nan])
    leaf = x.clone().requires_grad_()
    value = torch.compile(Nish(), fullgraph=True)(leaf)
    value.backward(torch.ones_like(value))
    right_value, right_slope = value_and_slope(x)
    torch.testing.assert_close(value, right_value, equal_nan=True)
    torch.testing.assert_close(leaf.grad, right_slope, equal_nan=True)


@pytest.mark.parametrize("strict", [False, True])
def test_in_torch_export(strict: bool) -> None:
    x = torch.randn(4, FUSED_FROM // 4, requires_grad=True)
    program = torch.export.export(Nish(), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=strict)
    more = torch.randn(7, FUSED_FROM // 4)
    torch.testing.assert_close(program.module()(more), nish(more))


def test_without_a_compiler_training_goes_on_unfused_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nish_activation, "_fusion_works", True)
    monkeypatch.setattr(nish_activation, "_compiled", nish_activation._compiled.__wrapped__)
    torch._dynamo.reset()
    x = torch.full((FUSED_FROM,), -1.0)
    caplog.set_level("INFO", nish_activation.__name__)
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        for _ in range(2):
            value, slope = value_and_slope(x)
    assert value[0].item() == pytest.approx(-0.495248, abs=1e-6)
    assert slope[0].item() == pytest.approx(0.052196, abs=1e-6)
    (record,) = [record for record in caplog.records if record.name == nish_activation.__name__]
    assert record.levelname == "WARNING"
    assert "InvalidCxxCompiler" in record.message
    assert "apt-get install g++" in record.message


FUSED_ONCE = """
import logging, torch
from taijitu_training.models import nish_activation
logging.basicConfig(format="%(levelname)s %(message)s")
nish_activation.nish(torch.full((nish_activation.FUSED_FROM,), -1.0, requires_grad=True))
print(nish_activation._fusion_works)
"""


def test_a_compilation_that_was_killed_is_named_with_the_folder_to_delete(root: Path, tmp_path: Path) -> None:
    def fused_in_a_new_process() -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
            "TORCHINDUCTOR_VEC_ISA_OK": "0",  # a new cache compiles a test of each instruction set otherwise
            "PYTHONPATH": str(root / "training"),
        }
        command = [sys.executable, "-c", FUSED_ONCE]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)

    whole = fused_in_a_new_process()
    assert whole.stdout == "True\n"
    assert "WARNING" not in whole.stderr
    for library in tmp_path.rglob("*.so"):
        library.write_bytes(b"")  # as a killed linker leaves it
    broken = fused_in_a_new_process()
    assert broken.stdout == "False\n"
    assert broken.stderr.count("WARNING") == 1
    assert f"delete {tmp_path}" in broken.stderr


def test_the_factory_knows_its_names() -> None:
    x = torch.linspace(-3, 3, 7)
    functions = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu, "mish": F.mish, "hardswish": F.hardswish, "nish": nish}
    assert list_activations() == sorted(functions)
    for name, function in functions.items():
        torch.testing.assert_close(create_activation(name)(x), function(x))
    with pytest.raises(UnknownNameError, match=r"'nisch'.* nish"):
        create_activation("nisch")


def of_type(model: nn.Module, *types: type[nn.Module]) -> int:
    return sum(isinstance(module, types) for module in model.modules())


@pytest.mark.parametrize(
    ("source", "name", "old", "count", "gates"),
    [
        ("timm", "resnet18", nn.ReLU, 17, 0),
        ("timm", "mobilenetv2_100", nn.ReLU6, 35, 0),
        ("timm", "efficientnet_b0", nn.SiLU, 49, 16),
        ("torchvision", "squeezenet1_1", nn.ReLU, 26, 0),
    ],
)
def test_activations_of_other_networks_are_replaced(
    source: str, name: str, old: type[nn.Module], count: int, gates: int
) -> None:
    model = network_of(source, name)
    x = torch.randn(2, 3, 64, 64)
    before = model(x)
    assert of_type(model, old) == count
    assert replace_activations(model, "nish") == count
    assert of_type(model, old) == 0
    assert of_type(model, Nish) == count
    assert of_type(model, nn.Sigmoid) == gates
    after = model(x)
    assert after.shape == before.shape
    assert not torch.allclose(after, before)
    after.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def network_of(source: str, name: str) -> nn.Module:
    model: nn.Module
    if source == "timm":
        model = pytest.importorskip("timm").create_model(name, pretrained=False, num_classes=5)
    else:
        model = getattr(pytest.importorskip("torchvision").models, name)(weights=None, num_classes=5)
    return model.eval()


def test_timm_s_own_activations_are_replaced_and_its_gates_are_not() -> None:
    timm = pytest.importorskip("timm.layers.activations")
    efficient = pytest.importorskip("timm.layers.activations_me")
    own = [timm.Swish(), timm.Mish(), timm.HardSwish(), timm.HardMish(), timm.GELU(), timm.GELUTanh(), timm.QuickGELU()]
    own += [efficient.SwishMe(), efficient.MishMe(), efficient.HardSwishMe(), efficient.HardMishMe()]
    gates = [timm.Sigmoid(), timm.HardSigmoid(), efficient.HardSigmoidMe(), nn.Sigmoid(), nn.Hardsigmoid(), nn.PReLU()]
    model = nn.Sequential(*own, *gates)
    assert replace_activations(model, "nish") == len(own)
    assert [type(module) for module in model] == [Nish] * len(own) + [type(gate) for gate in gates]


def test_every_torch_activation_is_replaced_by_any_other() -> None:
    others = (nn.ReLU6, nn.LeakyReLU, nn.ELU)
    for name in list_activations():
        model = nn.Sequential(*(create_activation(known) for known in list_activations()), *(make() for make in others))
        assert replace_activations(model, name) == len(model)
        assert {type(module) for module in model} == {type(create_activation(name))}


def test_a_module_that_is_used_several_times_stays_one() -> None:
    act = nn.ReLU()
    inner = nn.Sequential(nn.Linear(3, 3), act)
    model = nn.Sequential(act, inner, act, inner, nn.ReLU()).eval()
    assert replace_activations(model, "silu") == 2
    assert model[0] is model[2] is inner[1]
    assert model[4] is not model[0]
    assert not any(module.training for module in model.modules())
    torch.testing.assert_close(model[0](torch.tensor(-1.0)), F.silu(torch.tensor(-1.0)))


def test_nothing_to_replace_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())
    with pytest.raises(TaijituError, match=r"Sequential.* F\.relu"):
        replace_activations(model, "nish")


def test_an_unknown_name_changes_nothing() -> None:
    model = nn.Sequential(nn.ReLU())
    with pytest.raises(UnknownNameError, match=" mish"):
        replace_activations(model, "misch")
    assert isinstance(model[0], nn.ReLU)
