"""What the README and the other pages show: blocks of code, and the commands that shell blocks come to."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[1]
PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md")))

# Programs whose calls are written down instead of made. Any other program has to be one of `_TOOLS`.
_WRITTEN_DOWN = ("python", "pip", "pip-audit", "cfaan", "cfaan-build-records", "sbatch", "kubectl", "ruff", "mypy",
                 "mkdocs")
_TOOLS = ("mkdir", "timeout", "tee", "tail", "bash", "cat", "date", "dirname", "grep", "sed")
_PRESENT = ("runs/mars", "runs/quickstart/cfaan-aligned", "osnet.onnx")  # what scripts look for before they begin
_COMMAND = re.compile(r"(python -m \S+|python \S+\.py|cfaan|bash launch/\S+) \S")  # with arguments
_GAP = re.compile(r"\.\.\.|<")  # where something is left out
_SEPARATOR = "\x1f"
_STAND_IN = f"""#!/bin/bash
IFS={_SEPARATOR}
printf '%s\\n' "${{0##*/}}{_SEPARATOR}$*" >> "$CALLS"
"""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: path of the file in the repository.
        line: of its first line of code, from 1.
        language: after the fence; "indented" where there is no fence.
        content: the code.
    """

    page: str
    line: int
    language: str
    content: str

    @property
    def name(self) -> tuple[str, str]:
        """Page and first line."""
        return self.page, self.content.strip().split("\n")[0]


def blocks() -> list[Block]:
    """All blocks of all pages."""
    listed = []
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text()):
            if token.type in ("fence", "code_block"):
                language = token.info.split(" ")[0] if token.type == "fence" else "indented"
                listed.append(Block(_name(page), token.map[0] + 1 + (token.type == "fence"), language, token.content))
    return listed


def sentences() -> list[Block]:
    """Commands with arguments inside sentences; a single capital letter in one stands for a number."""
    listed = {}
    for page, token, line in inside("code_inline"):
        if _COMMAND.match(token.content) and not _GAP.search(token.content):
            listed.setdefault(token.content, Block(page, line, "bash", re.sub(r"\b[A-Z]\b", "1", token.content)))
    return list(listed.values())


def inside(kind: str) -> Iterator[tuple[str, Token, int]]:
    """The inline tokens of a kind, each with the name of its page and the line where its paragraph begins."""
    for page in PAGES:
        for paragraph in MarkdownIt().enable("table").parse(page.read_text()):
            line = paragraph.map[0] + 1 if paragraph.map else 0
            yield from ((_name(page), token, line) for token in paragraph.children or () if token.type == kind)


def _name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def calls(script: str, folder: Path) -> list[list[str]]:
    """The commands that a shell block comes to, and those of the scripts that it starts; none of them is run.

    Args:
        script: the block.
        folder: an empty one, in which it finds the repository's scripts and programs of the names that it calls.
    """
    programs, written = folder / "programs", folder / "calls"
    programs.mkdir()
    written.touch()
    for name in _WRITTEN_DOWN:
        (programs / name).write_text(_STAND_IN)
        (programs / name).chmod(0o755)
    for name in _TOOLS:
        (programs / name).symlink_to(next(path for path in (f"/bin/{name}", f"/usr/bin/{name}") if Path(path).exists()))
    for name in _PRESENT:
        (folder / name).mkdir(parents=True)
    for name in ("configs", "data_prep", "launch"):
        (folder / name).symlink_to(REPOSITORY / name)
    environment = {"PATH": str(programs), "CALLS": str(written), "CFAAN_VENV": "none", "HOME": os.environ["HOME"]}
    done = subprocess.run(["/bin/bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return [line.replace(f"{folder}/", "").split(_SEPARATOR) for line in written.read_text().splitlines()]
