"""Run the README's blocks marked `<!-- ci -->`: what the README shows must work.

python .ci/readme_blocks.py README.md
"""

import os
import re
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"<!-- ci -->\n```(bash|python)\n(.*?)```", re.DOTALL)


def main() -> int:
    """Run each block from the repository's root with this interpreter first on PATH; the first failure ends it."""
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    if not blocks:
        sys.exit(f"{sys.argv[1]}: no block is marked <!-- ci -->")
    here = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": here + os.pathsep + os.environ["PATH"]}
    for language, code in blocks:
        print(f"--- {language}\n{code}", flush=True)
        command = (
            ["bash", "-euo", "pipefail", "-c", code]
            if language == "bash"
            else [sys.executable, "-c", code]
        )
        if subprocess.run(
            command, env=env, cwd=Path(sys.argv[1]).resolve().parent, check=False
        ).returncode:
            sys.exit(f"{sys.argv[1]}: this block failed:\n{code}")
    print(f"{len(blocks)} README blocks ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())
