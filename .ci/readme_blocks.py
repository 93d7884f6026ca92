"""Run the shell and Python blocks of the documentation: what a page shows must work.

    python .ci/readme_blocks.py                 # README.md and docs/*.md
    python .ci/readme_blocks.py README.md docs/masks.md
    python .ci/readme_blocks.py --list          # every block, and why some are not run

A block is not run where the line above it says `<!-- not run: REASON -->`. The others run in a
copy of the repository beside a small world (../world, ../world_dev); none may change a tracked
file of it. Blocks without a language count as shell where they begin with a command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A folder with the copy's `core` under its name as a package; tests/test_package.py installs it.
INSTALLED = "installed"
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?^```(?P<kind>\w*)\n(?P<code>.*?)^```", re.M | re.S
)
SHELL = re.compile(r"(?:#[^\n]*\n)*(?:python3?|torchrun|make|pip|docker|git|CUDA_\w+=\S+) ")
LIMIT = 600  # seconds a block may take
WORLDS = {"world": ("200", "20", "0"), "world_dev": ("0", "8", "1")}  # train, val, seed


@dataclass(frozen=True)
class Block:
    """A block of a page: its language, its code, and why it is not run ("" where it is)."""

    page: str
    line: int
    language: str
    code: str
    why_not: str


def main() -> int:
    """Run or list the blocks; the first failure ends it."""
    pages = [Path(name) for name in sys.argv[1:] if name != "--list"]
    pages = pages or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in blocks_of(page)]
    if "--list" in sys.argv[1:]:
        for block in blocks:
            print(f"{block.page}:{block.line} {block.language} {block.why_not or 'runs'}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy = make_copy(Path(folder))
        for block in blocks:
            if not block.why_not:
                run(block, copy)
    ran = sum(not block.why_not for block in blocks)
    print(f"{ran} blocks ran, {len(blocks) - ran} are marked as not run")
    return 0


def blocks_of(page: Path) -> Iterator[Block]:
    """The shell and Python blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        language = {"sh": "bash", "": "bash"}.get(found["kind"], found["kind"])
        if language not in ("bash", "python") or (
            not found["kind"] and not SHELL.match(found["code"])
        ):
            continue
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page.name, line, language, found["code"], found["why"] or "")


def make_copy(folder: Path) -> Path:
    """The tracked files in a repository of their own, small worlds beside it."""
    copy = folder / "ttd"
    names = git(ROOT, "ls-files", "-z").split("\0")
    for name in filter(None, names):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    (folder / INSTALLED).mkdir()
    (folder / INSTALLED / "ttd").symlink_to(copy / "core")
    git(copy, "init", "-q")
    git(copy, "add", "-A")
    who = ("-c", "user.name=ci", "-c", "user.email=ci@localhost")
    git(copy, *who, "commit", "-q", "-m", "as it is")
    for name, (train, val, seed) in WORLDS.items():
        options = ["--out", f"../{name}", "--train", train, "--val", val, "--seed", seed]
        subprocess.run([sys.executable, "tools/make_world.py", *options], cwd=copy, check=True)
    return copy


def git(folder: Path, *words: str) -> str:
    """What a git command prints."""
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def run(block: Block, copy: Path) -> None:
    """Run a block in the copy; this interpreter is the `python` of its commands."""
    where = f"{block.page}:{block.line}"
    print(f"--- {where} {block.language}\n{block.code}", flush=True)
    paths = {"PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]}
    packages = os.pathsep.join([str(copy), str(copy.parent / INSTALLED)])
    environment = {**os.environ, **paths, "PYTHONPATH": packages}
    command = [sys.executable, "-c", block.code]
    if block.language == "bash":
        command = ["bash", "-euo", "pipefail", "-c", block.code]
    try:
        code = subprocess.run(command, env=environment, cwd=copy, timeout=LIMIT).returncode
    except subprocess.TimeoutExpired:
        sys.exit(f"{where}: took more than {LIMIT} s; mark it <!-- not run: REASON -->")
    if code:
        sys.exit(f"{where}: this block failed with exit code {code}")
    if changed := git(copy, "status", "--porcelain", "--untracked-files=no"):
        sys.exit(f"{where}: this block changed tracked files:\n{changed}")


if __name__ == "__main__":
    sys.exit(main())
