"""`prove --key`: a model is what the owner of a key signed, with sha256sum and OpenSSL."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from taijitu_runtime.errors import ArtefactError, UsageError
from taijitu_runtime.proof.cli import main
from taijitu_runtime.proof.prove import prove
from taijitu_runtime.proof.signature import check_signature

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="got no openssl; apt-get install openssl")


def run(folder: Path, command: str) -> None:
    subprocess.run(command, shell=True, check=True, cwd=folder)  # as docs/proof.md has it


def sign(model: Path, *others: str, key: str = "private.pem") -> None:
    names = " ".join((model.name, *others))
    run(model.parent, f"sha256sum {names} > {model.name}.sha256")
    sums = f"{model.name}.sha256"
    run(model.parent, f"openssl pkeyutl -sign -rawin -inkey {key} -in {sums} -out {sums}.sig")


@pytest.fixture
def signed(shipped_onnx: Path, tmp_path: Path) -> Path:
    """Return a signed model; its folder has the key, and another one."""
    for name in ("private", "other"):
        run(tmp_path, f"openssl genpkey -algorithm ed25519 -out {name}.pem")
    run(tmp_path, "openssl pkey -in private.pem -pubout -out public.pem")
    model = Path(shutil.copy(shipped_onnx, tmp_path / "model.onnx"))
    sign(model)
    return model


def test_a_signed_model_is_proven_and_says_by_which_key(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = signed.with_name("public.pem")
    assert main([str(signed), "--key", str(key)]) == 0
    assert f"signed by {key}" in capsys.readouterr().out


def add_a_byte(model: Path) -> None:
    with model.open("ab") as file:
        file.write(b"\x42\x00")  # an empty doc_string of the ModelProto: the same network


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (add_a_byte, "model.onnx"),
        (lambda model: model.with_name("model.onnx.sha256").unlink(), "model.onnx.sha256"),
        (lambda model: model.with_name("model.onnx.sha256.sig").unlink(), "model.onnx.sha256.sig"),
        (lambda model: model.with_name("model.onnx.sha256.sig").write_bytes(b"x"), "model.onnx.sha256.sig"),
        (lambda model: model.with_name("model.onnx.sha256").write_text("0" * 64 + "  model.onnx\n"), "sha256.sig"),
        (lambda model: sign(model, key="other.pem"), "model.onnx.sha256.sig"),
    ],
    ids=["model", "no sums", "no signature", "signature", "sums", "key"],
)
def test_anything_else_is_not(signed: Path, change: Callable[[Path], object], names: str) -> None:
    assert prove(signed).proven
    change(signed)
    found = prove(signed, key=signed.with_name("public.pem"))
    assert found.outcome == "failed"
    assert names in found.faults[0]


@pytest.mark.parametrize(
    "name", ["back\\slash.onnx", "line\nend.onnx", "carriage\rreturn.onnx", "separator\u2028.onnx", "latin\udcfc.onnx"]
)
def test_a_model_of_any_name_can_be_signed(signed: Path, name: str) -> None:
    model = signed.rename(signed.with_name(name))
    quoted = shlex.quote(name)
    run(model.parent, f"sha256sum {quoted} > {quoted}.sha256")
    run(model.parent, f"openssl pkeyutl -sign -rawin -inkey private.pem -in {quoted}.sha256 -out {quoted}.sha256.sig")
    check_signature(model, model.with_name("public.pem"))


def test_sums_that_were_written_in_another_folder_are_told_by_the_names_in_them(signed: Path) -> None:
    run(signed.parent.parent, f"sha256sum {signed.parent.name}/model.onnx > {signed}.sha256")
    run(signed.parent, f"openssl pkeyutl -sign -rawin -inkey private.pem -in {signed}.sha256 -out {signed}.sha256.sig")
    with pytest.raises(ArtefactError, match=f"{signed.parent.name}/model.onnx.*each file"):
        check_signature(signed, signed.with_name("public.pem"))


def test_each_file_of_the_model_must_be_signed(signed: Path) -> None:
    engine, key = signed.with_name("model.engine"), signed.with_name("public.pem")
    engine.write_bytes(b"plan")
    engine.with_name("model.engine.json").write_text("{}")
    sign(engine, "model.engine.json")
    check_signature(engine, key)
    engine.with_name("model.engine.json").unlink()
    with pytest.raises(ArtefactError, match=r"model\.engine\.json"):
        check_signature(engine, key)
    engine.with_name("model.engine.json").write_text("{}")
    sign(engine)
    with pytest.raises(ArtefactError, match=r"model\.engine\.json"):
        check_signature(engine, key)


def test_what_is_no_public_key_of_ed25519_is_wrong_usage(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(signed.parent, "openssl genpkey -algorithm ed448 | openssl pkey -pubout -out ed448.pem")
    for name in ("missing.pem", "model.onnx", "private.pem", "ed448.pem"):
        with pytest.raises(UsageError, match=name):
            check_signature(signed, signed.with_name(name))
    assert main([str(signed), "--key", str(signed)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
