"""A local server for the tests of fetching."""

import pytest
from file_server import Server


@pytest.fixture(scope="module")
def running():
    with Server() as server:
        yield server


@pytest.fixture
def server(running):
    running.routes.clear()
    running.asked.clear()
    return running
