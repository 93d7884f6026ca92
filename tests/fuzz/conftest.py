"""What hostile files may not do: take memory without end."""

import resource

import pytest

MOST = 3 << 30  # bytes of data of the whole process: torch alone has reserved about one


@pytest.fixture(autouse=True, scope="session")
def little_memory():
    """A reader that wants gigabytes for a small file gets a MemoryError, which no test expects."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)
