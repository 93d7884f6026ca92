"""Whether requirements.lock can be installed, hashes checked, on every Python we name.

Nothing is installed or downloaded: uv resolves from the packages' metadata (a few seconds each).
"""

import subprocess
import sys
import tempfile

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORM = "x86_64-manylinux_2_28"


def main() -> int:
    """Resolve the lock for each Python; the first that fails ends it."""
    with tempfile.TemporaryDirectory() as nowhere:
        for version in PYTHONS:
            subprocess.run(command(version, nowhere), check=True, capture_output=False)
            print(f"requirements.lock: Python {version} on {PLATFORM} ok", flush=True)
    return 0


def command(version: str, target: str) -> list[str]:
    """uv's command for one Python."""
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--dry-run", "--no-build"]
    where = ["--python-version", version, "--python-platform", PLATFORM, "--target", target]
    return [*uv, *where, "--require-hashes", "-r", "requirements.lock"]


if __name__ == "__main__":
    sys.exit(main())
