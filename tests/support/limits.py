"""Full disks from the system itself: no file may grow beyond so many bytes."""

from contextlib import contextmanager

import pytest

resource = pytest.importorskip("resource", reason="limits are POSIX's")


@contextmanager
def limited(size):
    """Writes beyond `size` bytes of a file fail with EFBIG, in this whole process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
