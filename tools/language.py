"""Check that comments, docstrings, messages and pages are in plain technical English.

python -m tools.language [FILE ...]

Reads the comments and string literals of .py files and the text of .md files (not their code), by default all those
that git tracks. Prints FILE:LINE: the phrase, and what to write instead. Exit code: 0 none found, 1 some.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

# A phrase that no native technical writer would use, and what to write instead. White space stands for any of it.
PHRASES = (
    (r"\bOf\b", "the subject first: 'The newest of its frames waits'"),
    (r"\bWho\b", "a noun: 'A client that ...'"),
    (r"\b[Ww]hoever\b", "a noun: 'any client', 'the caller'"),
    (r"\b[Ww]hatever\b", "'regardless of', 'any', 'everything that'"),
    (r"(?<!here )\b(is|are|was|were)\s+no\s+(?!(longer|more|smaller|larger|less|later|better|worse)\b)\w", "is not a"),
    (r"\b(is|are)\s+none\b(?!\s*[;:,.)]|\s+of\b|\s+in\b)", "is not one"),
    (r"\bno\s+one\s+else's\b", "not another's"),
    (r"\b(for|of|by)\s+what\s+(is|was|are)\b", "a noun: 'for a file that is ...'"),
    (r"\bfor\s+want\s+of\b", "because there is no"),
    (r"\b(leave|leaves|leaving|left)\s+(it\s+|them\s+|this\s+)?away\b", "remove, omit"),
    (r"\bbut\s+for\b", "except"),
    (r"\bof\s+(ours|theirs|yours)\b", "our"),
    (r"\b[Bb]esides?\b", "'next to' (a place), 'compared with', 'in addition to'"),
    (r"\bin\s+turns\b", "alternately"),
    (r"\banew\b", "again"),
    (r"\b([Tt]here|[Ww]here|[Hh]ere)(of|by|in|upon|with|after)\b", "a noun"),
    (r",\s+for\s+(it|they|there|we|he|she)\b", "because"),
    (r"(?<!or )\b[Ee]lse\s+(it|they|the|a|an|nobody)\b", "otherwise"),
    (r"\b[Ll]ies?\b", "is (in, at, next to)"),
    (r"\bstands?\s+(in\s+(the|a|its)|at|next|under|behind|there)\b", "is (in, at, next to)"),
    (r"\bstations?\b", "step, program"),
    (r"\b(other\s+people|(some|no|any)body\s+else)\b", "other users, other libraries"),
    (r"(?<!are )\ball\s+the\s+same\b", "still"),
    (r"\bat\s+hand\b", "local, available"),
    (r"\bput(s|ting)?\s+((it|that|this|them)\s+)?right\b", "correct"),
    (r"\bspelt\s+out\b", "explicit, written out"),
    (r"\bno\s+use\s+for\b", "does not use"),
    (r"'s\s+affair\b", "responsibility"),
    (r"\bfor\s+good\b", "permanently, forever"),
    (r"\bwithout\s+a\s+word\b|\bin\s+silence\b", "silently"),
    (r"\bgoes\s+before\b", "takes precedence over"),
    (r"\bbecomes?\s+of\b", "happens to"),
    (r"\b[Ww]e\b", "the subject: 'taijitu', 'the server', or the passive"),
)
EXEMPT = ("tools/language.py", "tests/test_language.py")

_PHRASES = [(re.compile(pattern.replace(" ", r"\s")), instead) for pattern, instead in PHRASES]
_CODE = re.compile(r"^ *```.*?^ *```|`[^`]*`", re.MULTILINE | re.DOTALL)
_QUOTES = re.compile(r"""^[A-Za-z]*('''|\"""|'|")|('''|\"""|'|")$""")
_STRINGS = ("STRING", "FSTRING_MIDDLE")


def phrases_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line (from 1) of each phrase of PHRASES in `text`, the phrase, and what to write instead."""
    prose = _CODE.sub(lambda code: re.sub(r"[^\n]", "`", code[0]), text)
    for pattern, instead in _PHRASES:
        for found in pattern.finditer(prose):
            yield 1 + prose.count("\n", 0, found.start()), " ".join(found[0].split()), instead


def texts_in_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield each block of comments or of adjacent strings, with the number of its first line."""
    block: list[str] = []
    kind, first, last = "", 0, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        text_kind = "comment" if name == "COMMENT" else "string" if name in _STRINGS else ""
        if not text_kind:
            if name not in ("NL", "NEWLINE", "FSTRING_START", "FSTRING_END"):
                kind = ""
            continue
        text = token.string.lstrip("# ") if text_kind == "comment" else _content(token.string)
        if text_kind == kind and token.start[0] - last <= 1:
            block.append("\n" * (token.start[0] - last) + text)
        else:
            if block:
                yield first, "".join(block)
            block, first = [text], token.start[0]
        kind, last = text_kind, token.end[0]
    if block:
        yield first, "".join(block)


def _content(literal: str) -> str:
    is_formatted = "f" in literal[:2].lower()  # up to Python 3.11, an f-string is one token with its expressions
    content = _QUOTES.sub("", literal)
    return re.sub(r"\{[^{}]*\}", "{}", content) if is_formatted else content


def findings(path: Path) -> list[str]:
    """Return one line for each phrase in the file `path`."""
    source = path.read_text(encoding="utf-8")
    texts = [(1, source)] if path.suffix == ".md" else texts_in_python(source)
    return [
        f"{path}:{first + line - 1}: got {phrase!r}; write: {instead}"
        for first, text in texts
        for line, phrase, instead in phrases_in(text)
    ]


def main(argv: list[str] | None = None) -> int:
    """Print the findings; exit code 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tools.language", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help=".py and .md files (default: all that git tracks)")
    files = parser.parse_args(argv).files
    if not files:
        listed = subprocess.run(["git", "ls-files", "*.py", "*.md"], capture_output=True, text=True, check=True)
        files = [name for name in listed.stdout.splitlines() if name not in EXEMPT]
    found = [line for name in files for line in findings(Path(name))]
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
