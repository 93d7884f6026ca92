"""What hostile files may not do: take memory without end."""

import resource
from pathlib import Path

import pytest

MORE = 2 << 30  # bytes of data beyond what the process has


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    """A reader that wants gigabytes for a small file gets a MemoryError, which no test expects."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (taken() + MORE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


def taken():
    """Bytes of data that the process has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
