"""Run the documentation's blocks marked `<!-- ci -->`: what a page shows must work.

python .ci/readme_blocks.py README.md docs/masks.md
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"<!-- ci -->\n```(bash|python)\n(.*?)```", re.DOTALL)


def main() -> int:
    """Run the blocks of every page named, from the repository's root; the first failure ends it."""
    for page in sys.argv[1:]:
        blocks = BLOCK.findall(Path(page).read_text(encoding="utf-8"))
        if not blocks:
            sys.exit(f"{page}: no block is marked <!-- ci -->")
        for language, code in blocks:
            print(f"--- {language}\n{code}", flush=True)
            if run(language, code):
                sys.exit(f"{page}: this block failed:\n{code}")
        print(f"{page}: {len(blocks)} blocks ran")
    return 0


def run(language: str, code: str) -> int:
    """The exit code of a block; this interpreter is the `python` of its commands."""
    here = str(Path(sys.executable).parent)
    paths = {"PATH": here + os.pathsep + os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    if language == "bash":
        command = ["bash", "-euo", "pipefail", "-c", code]
    return subprocess.run(command, env={**os.environ, **paths}, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
