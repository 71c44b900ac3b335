"""What every registered network must do: a new one needs no new test except its row in PARAMETERS."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from taijitu_runtime.errors import TaijituError, UnknownNameError
from taijitu_training.models import create_activation, create_model, list_activations, list_models, model_options

# Trainable parameters with the paper's options; facts of the papers' tables except for VGNetF (see its file).
PARAMETERS = {
    "mlp": 1_404_510,
    "yynet": 1_608_144,
    "yynet_small_16": 52_882,
    "yynet_small_32": 191_330,
    "yynet_small_64": 726_274,
    "vgnetc_1_5mp": 1_506_344,
    "vgnetf1_1_5mp": 1_485_448,
    "vgnetf2_1_5mp": 1_485_896,
    "vgnetf3_1_5mp": 1_485_448,
    "vgnetf4_1_5mp": 1_485_896,
    "vgnetg_1_0mp": 997_358,
    "vgnetg_1_0mp_se": 1_143_190,
    "vgnetg_1_5mp": 1_502_024,
    "vgnetg_1_5mp_se": 1_701_680,
    "vgnetg_2_0mp": 2_006_380,
    "vgnetg_2_0mp_se": 2_344_696,
    "vgnetg_2_5mp": 2_492_756,
    "vgnetg_2_5mp_se": 2_922_284,
}

# Network, its options, and the file of weights, input and logits of the authors' code.
GOLDEN = [
    ("yynet_small_16", {"preset": "public_code"}, "yynet_small_16.npz"),
    ("vgnetg_1_0mp", {}, "vgnetg_1_0mp.npz"),
    ("vgnetf1_1_5mp", {"preset": "public_code"}, "vgnetf_1_5mp.npz"),
    ("vgnetf2_1_5mp", {}, "vgnetf_1_5mp.npz"),
]


@pytest.fixture(scope="module")
def golden(root: Path) -> Path:
    folder = Path(os.environ.get("TAIJITU_GOLDEN", root.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no reference logits in {folder}; set TAIJITU_GOLDEN to the folder with {GOLDEN[0][2]}")
    return folder


def test_every_network_is_known() -> None:
    assert list_models() == sorted(PARAMETERS)
    assert list_models("vgnetf?_1_5mp") == [f"vgnetf{i}_1_5mp" for i in range(1, 5)]


@pytest.mark.parametrize("name", list_models())
def test_parameters(name: str) -> None:
    model = create_model(name)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["vgnetf1_1_5mp", "vgnetf3_1_5mp"])
def test_parameters_where_the_public_code_fixes_what_the_paper_learns(name: str) -> None:
    model = create_model(name, preset="public_code")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1_485_896


@pytest.mark.parametrize("name", list_models())
@torch.inference_mode()
def test_logits_of_a_batch_at_the_network_s_input_size(name: str) -> None:
    model = create_model(name, num_classes=7).eval()
    x = torch.randn(2, 3, *model.input_size, generator=torch.Generator().manual_seed(0))
    logits = model(x)
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    # each picture is answered by itself, whichever the layout of the batch
    torch.testing.assert_close(model(x[1:].to(memory_format=torch.channels_last)), logits[1:], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", list_models())
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3)
    height, width = (min(side, 64) for side in model.input_size)
    model(torch.randn(2, 3, height, width)).square().sum().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


@pytest.mark.parametrize("act", list_activations())
@pytest.mark.parametrize("name", list_models())
def test_act_is_the_activation_everywhere(name: str, act: str) -> None:
    types = tuple(type(create_activation(known)) for known in list_activations())
    model = create_model(name, num_classes=2, act=act)
    found = {type(module) for key, module in model.named_modules() if isinstance(module, types)}
    attention = {nn.ReLU} if name.startswith("vgnet") and name.endswith("_se") else set()
    assert found == {type(create_activation(act))} | attention
    assert model_options(name, act=act)["act"] == act


@pytest.mark.parametrize(("name", "options", "file"), GOLDEN)
@torch.inference_mode()
def test_the_authors_weights_give_the_authors_logits(
    golden: Path, name: str, options: dict[str, str], file: str
) -> None:
    stored = np.load(golden / file)
    theirs = [torch.from_numpy(stored[key]) for key in stored.files if key.startswith("param/")]
    model = create_model(name, **options).eval()
    ours = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    state = dict(zip(ours, theirs, strict=True))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(key.endswith("num_batches_tracked") for key in missing)
    logits = model(torch.from_numpy(stored["x"]))
    torch.testing.assert_close(logits, torch.from_numpy(stored["logits"]), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_mlp_is_the_layers_of_its_source_on_the_mean_of_the_channels() -> None:
    model = create_model("mlp", depth=2, width=8, dropout=0.5, act="mish").eval()
    x = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    kinds = [nn.Linear, nn.BatchNorm1d, nn.Mish, nn.Dropout]
    assert [type(module) for module in model.modules() if not list(module.children())] == [*kinds, *kinds, nn.Linear]
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.5, 0.5]
    grey = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(model(grey), model(x))
    assert not torch.allclose(model(x.flip(2)), model(x)), "rows are told apart"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"depth": 0}, "got depth=0, expected at least 1 hidden layer"),
        ({"width": 0}, "got width=0, expected at least 1 unit a layer"),
        ({"dropout": 1.0}, r"got dropout=1.0, expected a rate in \[0, 1\)"),
    ],
)
def test_mlp_says_which_option_is_out_of_range(options: dict[str, float], text: str) -> None:
    with pytest.raises(TaijituError, match=text):
        create_model("mlp", **options)


def test_unknown_names_list_the_close_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"'vgnetg_1_5pm'.* vgnetg_1_5mp"):
        create_model("vgnetg_1_5pm")
    with pytest.raises(UnknownNameError, match=r"vgnetg_1_5mp.*'stemm'.* stem"):
        create_model("vgnetg_1_5mp", stemm="thumbnail")
    with pytest.raises(UnknownNameError, match=r"'sillu'.* silu"):
        create_model("vgnetg_1_5mp", act="sillu")
    with pytest.raises(TaijituError, match="got num_classes=0, expected at least 1"):
        create_model("vgnetg_1_5mp", num_classes=0)


CONCATENATING = ["torchvision/densenet121", "torchvision/shufflenet_v2_x0_5", "torchvision/googlenet"]


IN_FLOAT32 = ["yynet_small_16", "vgnetg_1_0mp", "vgnetf1_1_5mp", "torchvision/shufflenet_v2_x0_5"]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.bfloat16) for name in (*list_models(), *CONCATENATING)),
        *((name, torch.float32) for name in IN_FLOAT32),
    ],
)
def test_gradients_arrive_at_batch_norms_without_gaps(name: str, dtype: torch.dtype) -> None:
    """Check that batch norms get no slice, such as a concatenation's gradient, for which they are slow."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3).to(memory_format=torch.channels_last).train()
    arrived: dict[str, bool] = {}

    def watch(key: str) -> Callable[..., None]:
        def is_dense(gradient: Tensor) -> None:
            layout = torch.channels_last if gradient.ndim == 4 else torch.contiguous_format
            arrived[key] = gradient.is_contiguous(memory_format=layout)

        return lambda module, args, out: out.register_hook(is_dense) and None

    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    norms = {key: module for key, module in model.named_modules() if isinstance(module, kinds)}
    for key, module in norms.items():
        module.register_forward_hook(watch(key))
    size = (28, 28) if name == "mlp" else (64, 64)  # all others take any size
    images = torch.randn(2, 3, *size).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = model(images).float().square().sum()
    loss.backward()
    assert [key for key, dense in arrived.items() if not dense] == []
    assert len(arrived) == len(norms)
