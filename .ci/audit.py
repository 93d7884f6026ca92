"""Known vulnerabilities of everything in requirements.lock, by pip-audit.

    make audit

Exit code 0: all were looked up and none is known; 1: some are known; 2: it cannot be told, because
the database of advisories is out of reach or does not know a package.
"""

import json
import subprocess
import sys

LOCK = "requirements.lock"
COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "-r", LOCK),
    *("--format", "json", "--progress-spinner", "off", "--timeout", "15"),
)


def main() -> int:
    """Look everything up and print one line per finding."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"audit: nothing was checked, is there a network? ({reason[:200]})", file=sys.stderr)
        return 2
    return report(packages)


def report(packages: list[dict]) -> int:
    """Print what is known of the packages; the exit code."""
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    found = [package for package in packages if package.get("vulns")]
    for package in found:
        for one in package["vulns"]:
            mended = ", ".join(one["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {one['id']}, mended in {mended}")
    checked = len(packages) - len(unknown)
    print(f"{checked} of {len(packages)} packages checked, {len(found)} with known vulnerabilities")
    if found:
        return 1
    if unknown or not packages:
        names = ", ".join(unknown[:5]) + ", ..." * (len(unknown) > 5)
        print(f"audit: not known to the database of advisories: {names}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
