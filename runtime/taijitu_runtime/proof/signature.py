"""Check who made a model: the sums of its files, and their Ed25519 signature (RFC 8032).

Next to MODEL are MODEL.sha256, with the sums of all of its files as sha256sum writes them, and MODEL.sha256.sig, the
signature of MODEL.sha256 as OpenSSL writes it. These programs make both (docs/proof.md); here they are only read.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from taijitu_runtime.console import shown
from taijitu_runtime.engine_card import sidecar_of
from taijitu_runtime.errors import ArtefactError, UsageError, listed, require
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.onnx_graph.external_data import external_files

_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")
_ESCAPED = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}
"""What sha256sum writes for these characters of a name, in a line that begins with a backslash then."""


def check_signature(model: Path, key: Path) -> None:
    """Check that the key's owner signed this model.

    Args:
        model: An ONNX file or an engine; its weights in other files, or its sidecar, must be signed with it.
        key: A PEM file with an Ed25519 public key.

    Raises:
        UsageError: The key cannot be read, or is of another kind.
        ArtefactError: The sums or their signature are missing, do not fit, or lack a file of the model.
        MissingDependencyError: cryptography is not installed.
    """
    sums, signature = model.with_name(f"{model.name}.sha256"), model.with_name(f"{model.name}.sha256.sig")
    content = _read(sums, "the sums of its files")
    _verify(key, _read(signature, "the signature of its sums"), content, signature)
    signed = _signed(content, sums)
    for path in files_of(model):
        name = path.relative_to(model.parent).as_posix()
        if name not in signed:
            there = f"lines for {shown(listed(signed))} alone" if signed else "no line"
            raise ArtefactError(
                f"{sums}: got {there}, expected one for {shown(name)} and each file of the model, by its name in "
                "their folder; sign it again there"
            )
        if hashlib.sha256(_read(path, "a file of the signed model")).hexdigest() != signed[name]:
            raise ArtefactError(f"{path}: got another content than the one that was signed; fetch the file again")


def files_of(model: Path) -> list[Path]:
    """Return the files that make up a model: itself, then its weights in other files, or its sidecar."""
    if is_onnx(model):
        return [model, *external_files(model, model.read_bytes())]
    return [model, sidecar_of(model)]


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read ({error.strerror}), expected {what}; see docs/proof.md") from None


def _verify(key: Path, signature: bytes, content: bytes, path: Path) -> None:
    primitives = "cryptography.hazmat.primitives"
    load = require(f"{primitives}.serialization", "taijitu[signature]").load_pem_public_key
    kind = require(f"{primitives}.asymmetric.ed25519", "taijitu[signature]").Ed25519PublicKey
    invalid = require("cryptography.exceptions", "taijitu[signature]").InvalidSignature
    try:
        public = load(key.read_bytes())
    except OSError as error:
        raise UsageError(f"{key}: cannot be read ({error.strerror}), expected a public key; give its path") from None
    except Exception as error:  # cryptography raises errors of several classes
        raise UsageError(
            f"{key}: got no public key ({type(error).__name__}), expected PEM of Ed25519; "
            "write it with: openssl pkey -in private.pem -pubout -out public.pem"
        ) from None
    if not isinstance(public, kind):
        raise UsageError(f"{key}: got a key of another kind, expected Ed25519; openssl genpkey -algorithm ed25519")
    try:
        public.verify(signature, content)
    except invalid:
        raise ArtefactError(
            f"{path}: got a signature that {key} did not make of these sums; fetch all files again"
        ) from None


def _signed(sums: bytes, path: Path) -> dict[str, str]:
    """Return the digests of sha256sum's lines, by name."""
    found = {}
    # Not splitlines: a name may have what Unicode counts as an end of a line. As os.fsdecode, on any system.
    text = sums.decode("utf-8", "surrogateescape").replace("\r\n", "\n").removesuffix("\n")
    for number, line in enumerate(text.split("\n") if text else [], 1):
        if (match := _LINE.fullmatch(line)) is None:
            raise ArtefactError(
                f"{path}: got {line[:40]!r} in line {number}, expected a line of sha256sum; sign it again"
            )
        escape, digest, name = match.groups()
        found[re.sub(r"\\[\\nr]", lambda one: _ESCAPED[one[0]], name) if escape else name] = digest
    return found
