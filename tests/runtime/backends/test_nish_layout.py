"""The cache of models with Nish in the blocked layout: it never changes an answer, and is not used in any doubt."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from taijitu_runtime import cache
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.backends.ort import nish_layout
from taijitu_runtime.onnx_graph.nish import count_nish, with_nish, with_stand_in
from tests.helpers.tiny_nish_model import make_nish_onnx, nish_pictures

PLAIN = "Nish in the plain layout: "


@pytest.fixture
def model(with_nish_library: Path, tmp_path: Path) -> Path:
    """Make a model with Nish, the built library, and an empty cache."""
    return make_nish_onnx(tmp_path / "model.onnx")


@pytest.fixture
def debug(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return the messages about the cache."""
    caplog.set_level(logging.DEBUG, "taijitu_runtime")
    return caplog


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "taijitu").iterdir())


def assert_answers_are_right(model: Path) -> None:
    images = nish_pictures(3)
    with OrtBackend(model) as ours, OrtBackend(model, native=False) as plain:
        assert ours.card == plain.card
        np.testing.assert_allclose(ours.infer(images), plain.infer(images), rtol=1e-5, atol=1e-5)


def test_the_first_load_makes_the_file_and_the_next_ones_take_it(
    model: Path, tmp_path: Path, debug: pytest.LogCaptureFixture
) -> None:
    assert_answers_are_right(model)
    (file,) = cached(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    before = file.stat().st_mtime_ns
    assert_answers_are_right(model)
    assert cached(tmp_path) == [file]
    assert file.stat().st_mtime_ns == before
    assert debug.messages == []


def test_the_kernel_is_inside_the_blocked_layout(model: Path, tmp_path: Path) -> None:
    with OrtBackend(model):
        pass
    graph = onnx.load_from_string(cached(tmp_path)[0].read_bytes()[len(nish_layout.MAGIC) + 32 :]).graph
    made_by = {output: node for node in graph.node for output in node.output}
    if "com.microsoft.nchwc" not in {node.domain for node in graph.node}:
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    before = [made_by[node.input[0]] for node in graph.node if node.op_type == "Nish"]
    assert [node.domain for node in before].count("com.microsoft.nchwc") == 5
    assert "FusedConv" in [node.op_type for node in before]  # outside the layout, and corrected
    assert not any(attribute.s == b"Tanh" for node in graph.node for attribute in node.attribute)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:]])
def test_a_damaged_file_is_not_loaded_and_made_again_at_once(
    model: Path, tmp_path: Path, debug: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    assert_answers_are_right(model)
    (file,) = cached(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert_answers_are_right(model)
    assert cached(tmp_path) == [file]
    assert len(file.read_bytes()) == len(whole)
    assert debug.messages == []


def test_another_processor_runtime_or_library_has_a_file_of_its_own(
    model: Path, with_nish_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Runtime:
        __version__ = "1.31.1"

        @staticmethod
        def get_build_info() -> str:
            return "built with care"

    content = model.read_bytes()
    keys = {nish_layout._key(Runtime, content, with_nish_library), nish_layout._key(Runtime, content, model)}
    keys.add(nish_layout._key(Runtime, content[:-1], with_nish_library))
    monkeypatch.setattr(Runtime, "__version__", "1.31.2")
    keys.add(nish_layout._key(Runtime, content, with_nish_library))
    monkeypatch.setattr(nish_layout, "_processor", lambda cpuinfo: "another")
    keys.add(nish_layout._key(Runtime, content, with_nish_library))
    assert len(keys) == 5


def test_a_processor_is_identified_by_what_does_not_change() -> None:
    x86 = "processor\t: {n}\nmodel name\t: EPYC\ncpu MHz\t\t: {n}123.4\nflags\t\t: fma avx2{more}\n\n"
    first = nish_layout._processor(x86.format(n=0, more="") + x86.format(n=1, more=""))
    assert first == nish_layout._processor(x86.format(n=2, more=""))
    assert first != nish_layout._processor(x86.format(n=0, more=" avx512f"))
    arm = "processor\t: 0\nBogoMIPS\t: 62.5\nFeatures\t: fp asimd\nCPU part\t: {part}\n\n"
    assert nish_layout._processor(arm.format(part=1)) != nish_layout._processor(arm.format(part=2))
    with pytest.raises(nish_layout.LayoutError, match="does not say what it is"):
        nish_layout._processor("cpu\t: 0\nclock\t: 3 GHz\n")


def test_a_folder_or_file_that_others_can_write_is_not_used(
    model: Path, tmp_path: Path, debug: pytest.LogCaptureFixture
) -> None:
    assert_answers_are_right(model)
    (file,) = cached(tmp_path)
    for place, mode in ((file, 0o620), (file.parent, 0o770), (file.parent.parent, 0o777)):
        usual = place.stat().st_mode
        place.chmod(mode)
        debug.clear()
        assert_answers_are_right(model)
        place.chmod(usual)
        assert any("another user" in message or "other users can write" in message for message in debug.messages)
    debug.clear()
    assert_answers_are_right(model)
    assert debug.messages == []


def test_a_link_is_not_followed(model: Path, tmp_path: Path, debug: pytest.LogCaptureFixture) -> None:
    assert_answers_are_right(model)
    (file,) = cached(tmp_path)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert_answers_are_right(model)
    assert "Too many levels of symbolic links" in debug.messages[-1]
    assert not file.is_symlink()  # made again, in its place


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_file_of_another_user_is_not_loaded(
    model: Path, tmp_path: Path, debug: pytest.LogCaptureFixture, which: str
) -> None:
    assert_answers_are_right(model)
    (file,) = cached(tmp_path)
    os.chown(file if which == "file" else file.parent, 12345, -1)
    assert_answers_are_right(model)
    assert "another user" in debug.messages[-1]


@pytest.mark.parametrize("cache", ["/proc/no/such/place", "file/cache"])
def test_where_nothing_can_be_written_the_layout_is_made_at_each_start(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debug: pytest.LogCaptureFixture, cache: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    assert_answers_are_right(model)
    (message,) = debug.messages
    assert message.startswith(nish_layout.NOT_KEPT)


def test_a_file_that_cannot_be_kept_does_not_cost_the_session(
    model: Path, monkeypatch: pytest.MonkeyPatch, debug: pytest.LogCaptureFixture
) -> None:
    def full(places: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nish_layout, "keep_newest", full)
    assert_answers_are_right(model)
    (message,) = debug.messages
    assert message.startswith(nish_layout.NOT_KEPT)


def test_a_file_with_other_answers_is_found_out_when_debugging(
    model: Path, tmp_path: Path, debug: pytest.LogCaptureFixture
) -> None:
    with OrtBackend(model):
        (file,) = cached(tmp_path)
    with OrtBackend(make_nish_onnx(tmp_path / "other.onnx", seed=1)):
        (other,) = set(cached(tmp_path)) - {file}
    file.write_bytes(other.read_bytes())
    assert_answers_are_right(model)
    assert debug.messages[-1].startswith(f"{PLAIN}LayoutError: the answers differ by ")


@pytest.mark.parametrize("extra", ["Tanh"])
def test_a_model_with_the_stand_in_of_its_own_stays_as_it_is(
    with_nish_library: Path, tmp_path: Path, debug: pytest.LogCaptureFixture, extra: str
) -> None:
    assert_answers_are_right(make_nish_onnx(tmp_path / "model.onnx", extra=extra))
    assert debug.messages[-1] == f"{PLAIN}ValueError: it has Tanh of its own"
    assert cached(tmp_path) == []


def test_weights_in_another_file_stay_there(model: Path, tmp_path: Path, debug: pytest.LogCaptureFixture) -> None:
    proto = onnx.load(model)
    onnx.save(proto, model, save_as_external_data=True, location="weights.bin", size_threshold=100)
    assert_answers_are_right(model)
    assert debug.messages[-1] == f"{PLAIN}ValueError: it has weights in other files"


def test_old_files_are_removed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nish_layout, "keep_newest", lambda places: cache.keep_newest(places, 2))
    for seed in range(3):
        with OrtBackend(make_nish_onnx(tmp_path / f"{seed}.onnx", seed=seed)):
            newest = max(cached(tmp_path), key=lambda path: path.stat().st_mtime_ns)
    assert len(cached(tmp_path)) == 2
    assert newest in cached(tmp_path)


def test_the_stand_in_and_back_is_the_same_model(model: Path) -> None:
    content = model.read_bytes()
    assert count_nish(content) == 8
    stand_in = with_stand_in(content)
    assert [node.op_type for node in onnx.load_from_string(stand_in).graph.node].count("Tanh") == 8
    back, restored = with_nish(stand_in)
    assert restored == 8
    assert onnx.load_from_string(back) == onnx.load_from_string(content)
    with pytest.raises(ValueError, match="no protobuf message"):
        count_nish(hashlib.sha256(content).digest() * 9)
