"""The benchmark of engines runs, small."""

import bench_shards
import pytest


@pytest.mark.slow
def test_it_measures_memory_and_overhead(capsys):
    assert (
        bench_shards.main(["--quick", "--parts", "memory", "overhead", "--engines", "local"]) == 0
    )
    said = capsys.readouterr().out
    assert "growth of memory" in said and "time beside the shards, local" in said
