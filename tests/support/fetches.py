"""What tests of fetching share: a content, and a fetch from a local server."""

import hashlib
import random

import pytest

from core.data.download.fetch import Link, fetch
from core.data.download.links import Policy
from core.errors import TTDError

DATA = random.Random(0).randbytes(300_000)
SHA = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()
HERE = Policy(plain_http=True, timeout=2.0, tries=3, pause=0.0)


def get(server, folder, answer, policy=HERE, **link):
    """Fetch /f, which `answer` answers; what is measured of it."""
    server.routes["/f"] = answer
    return fetch(Link(f"{server.url}/f", **link), folder / "f", policy)


def refused(server, folder, answer, match, policy=HERE, **link):
    """The same, ending in one line; nothing is called f."""
    with pytest.raises(TTDError, match=match) as error:
        get(server, folder, answer, policy, **link)
    assert "\n" not in str(error.value) and not (folder / "f").exists()


def names(folder):
    return sorted(path.name for path in folder.iterdir())
