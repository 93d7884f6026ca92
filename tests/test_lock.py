"""requirements.lock beside the ranges: every package by version and hash, on every Python."""

import re

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from paths import ROOT

PINS = re.compile(
    r"^(\S+==\S+(?: ; .+?)?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)
RANGES = [
    Requirement(line)
    for name in ("requirements.txt", "requirements-dev.txt")
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    if line and line[0] not in "#-"
]


@pytest.fixture(scope="module")
def text():
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


def applies(marker: Marker | None, python: str) -> bool:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.4",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
    }
    return marker is None or marker.evaluate(environment)


def test_every_line_is_a_version_with_hashes(text):
    """Nothing else: no address of an index, no file, no option."""
    rest = PINS.sub("", text)
    assert all(line.startswith("#") for line in rest.splitlines()), rest[:200]
    assert "://" not in text and "index" not in text


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_one_version_in_range_of_all_that_is_wanted(text, python):
    pinned = {}
    for found in PINS.finditer(text):
        pin = Requirement(found[1])
        if applies(pin.marker, python):
            assert pin.name not in pinned, f"{pin.name} twice"
            pinned[pin.name] = str(pin.specifier).removeprefix("==")
    for wanted in RANGES:
        name = wanted.name.lower().replace("_", "-")
        assert wanted.specifier.contains(pinned[name]), f"{name}: make lock"
