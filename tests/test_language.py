"""tools/language.py finds the phrases that `make lint` forbids, with their lines, and passes plain sentences."""

from pathlib import Path

import pytest

from tools import language

BAD = '''"""A module."""

# A frame that is lost, but
# for the first one.
MESSAGE = f"{1}: got no model, for " \\
    "want of memory"


def newest() -> None:
    """Of its frames the newest waits."""
'''
GOOD = '''"""A module, the best of all."""

# There is no GPU here, and `but for` is code; no longer used.
MESSAGE = "got no model: not enough memory"


def newest() -> None:
    """Return the newest of its frames; whoami may say who asks."""
'''


def test_finds_phrases_over_line_ends_and_names_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.py"
    file.write_text(BAD)
    assert language.main([str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{file}:3", f"{file}:5", f"{file}:10"]


def test_passes_plain_sentences_and_code(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "good.md").write_text("Run `x but for y`.\n\n```\nOf this\n```\n")
    assert language.main([str(tmp_path / "good.py"), str(tmp_path / "good.md")]) == 0


def test_finds_phrases_in_pages(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nA file that is\nno model.\n")
    assert [line.partition(": ")[0] for line in language.findings(page)] == [f"{page}:3"]
