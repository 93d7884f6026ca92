"""Which part of the shards a process takes, by what its launcher says."""

import pytest

from core.errors import TTDError
from core.labelling.engines.ranks import Part, launched, parse_part
from core.labelling.manifest import share

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
ARRAY = ("ID", "COUNT", "MIN", "MAX", "STEP")


@pytest.fixture(autouse=True)
def nothing_launched(monkeypatch):
    for name in (*NAMES, *(f"SLURM_ARRAY_TASK_{end}" for end in ARRAY)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RANK": 3, "WORLD_SIZE": 8, "LOCAL_RANK": 1}, Part(3, 8, 1)),
        ({"SLURM_PROCID": 5, "SLURM_NTASKS": 6, "SLURM_LOCALID": 2}, Part(5, 6, 2)),
        ({"SLURM_ARRAY_TASK_ID": 2, "SLURM_ARRAY_TASK_COUNT": 4}, Part(2, 4)),
        # --array=10-30:10
        (
            {f"SLURM_ARRAY_TASK_{e}": v for e, v in zip(ARRAY, (30, 3, 10, 30, 10), strict=True)},
            Part(2, 3),
        ),
        # An array of two jobs of three tasks each.
        (
            {
                "SLURM_ARRAY_TASK_ID": 1,
                "SLURM_ARRAY_TASK_COUNT": 2,
                "SLURM_PROCID": 2,
                "SLURM_NTASKS": 3,
            },
            Part(5, 6),
        ),
    ],
)
def test_launchers(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    assert launched() == expected


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SLURM_PROCID": "4", "SLURM_NTASKS": "4"},
        {"SLURM_ARRAY_TASK_ID": "x"},
        {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4"},
    ],
)
def test_numbers_that_are_none(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TTDError):
        launched()


def test_parts_are_a_partition():
    parts = [share(range(11), number, 4) for number in range(4)]
    assert sorted(sum(parts, [])) == list(range(11))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "3", "4/4", "-1/4", "1/0", "a/b", "1/2/3"])
def test_part_of_the_command_line(text):
    assert parse_part("3/8") == Part(3, 8)
    with pytest.raises(TTDError, match="I/N"):
        parse_part(text)
