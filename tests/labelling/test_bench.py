"""The benchmark of engines runs, small."""

import bench_shards
import pytest


@pytest.mark.slow
def test_it_measures_memory_and_overhead(capsys):
    assert (
        bench_shards.main(["--quick", "--parts", "memory", "overhead", "--engines", "local"]) == 0
    )
    said = capsys.readouterr().out
    # Small sizes are held to no goal: the tables of both parts are there.
    assert "\npairs " in said and "\nlocal " in said
