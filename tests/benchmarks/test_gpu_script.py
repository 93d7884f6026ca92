"""benchmarks/gpu.py: budgets hold, a failed stage is reported and the others run."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import bench_truth
import gpu
import gpu_page
import pytest
from gpu_stages import STAGES, TOTAL, Stage
from paths import ROOT

from core.errors import TTDError

MACHINE = {
    "cuda": True,
    "card": "a card",
    "memory_gb": 80.0,
    "torch": "2.9",
    "cuda_version": "13.0",
    "python": "3.12",
    "driver": "580",
    "cores": 16,
}
RESULT = {
    "figures": {"ms": 1.5},
    "tables": [{"columns": ["path", "time"], "rows": [["ours", "1 s"]]}],
    "goals": [{"what": "speed", "goal": ">= 2x", "got": "1.0x", "met": False}],
}
WRITES = "import sys, json; json.dump({result}, open(sys.argv[-1], 'w')); print('figures')"
HANGS = """
import subprocess, sys, time
print("so far", flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def stage(name: str, code: str, budget: int = 60) -> Stage:
    return Stage(name, f"about {name}", budget, ("-c", code))


def good(name: str, **changed) -> Stage:
    return stage(name, WRITES.format(result={**RESULT, **changed}))


@pytest.fixture
def card(monkeypatch):
    """A machine that says it has a card; what stages do there is the test's."""
    monkeypatch.setattr(gpu, "machine", lambda: MACHINE)


def run(monkeypatch, out, *stages, code=1):
    """gpu.json and gpu.txt of a run of these stages."""
    monkeypatch.setattr(gpu, "STAGES", stages)
    assert gpu.main(["--out", str(out)]) == code
    return json.loads((out / "gpu.json").read_text()), (out / "gpu.txt").read_text()


def outcomes(report):
    return {one["name"]: one["outcome"] for one in report["stages"]}


def test_a_failed_stage_is_reported_and_the_next_one_runs(card, monkeypatch, tmp_path, capsys):
    broken = stage("broken", "print('before'); raise RuntimeError('a kernel is wrong')")
    report, text = run(monkeypatch, tmp_path, broken, good("after"))
    assert outcomes(report) == {"broken": "failed", "after": "ok"}
    assert "a kernel is wrong" in report["stages"][0]["error"] and "a kernel is wrong" in text
    assert report["stages"][1]["figures"] == {"ms": 1.5}
    printed = capsys.readouterr().out
    assert "not all stages ended well: broken (failed)" in printed and "MISSED  speed" in printed
    assert "before" in (tmp_path / "broken.txt").read_text()


def test_a_stage_and_its_children_end_with_its_budget(card, monkeypatch, tmp_path):
    begin = time.monotonic()
    report, _ = run(monkeypatch, tmp_path, stage("hangs", HANGS, budget=2), good("after"))
    assert time.monotonic() - begin < 30
    assert outcomes(report) == {"hangs": "timed out", "after": "ok"}
    assert "so far" in report["stages"][0]["error"]
    child = int((tmp_path / "hangs.txt").read_text().splitlines()[1])
    state = Path(f"/proc/{child}/status")
    assert not state.exists() or "zombie" in state.read_text()


def test_what_does_not_fit_into_the_time_is_skipped(card, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "TOTAL", 50)
    large, small = (
        stage("large", "raise SystemExit(3)"),
        Stage("small", "", 20, good("small").command),
    )
    report, _ = run(monkeypatch, tmp_path, large, small)
    assert outcomes(report) == {"large": "skipped: no time", "small": "ok"}


def test_figures_are_written_as_soon_as_a_stage_ends(card, monkeypatch, tmp_path):
    look = "import json; print([s['name'] for s in json.load(open({path!r}))['stages']])"
    run(
        monkeypatch,
        tmp_path,
        good("first"),
        stage("second", look.format(path=str(tmp_path / "gpu.json"))),
    )
    assert (tmp_path / "second.txt").read_text().strip() == "['first']"


def test_figures_that_are_no_numbers_are_a_failure(card, monkeypatch, tmp_path):
    code = "import sys; open(sys.argv[-1], 'w').write('{\"figures\": {\"ms\": NaN}}')"
    report, _ = run(monkeypatch, tmp_path, stage("nan", code), good("none", figures={}))
    assert outcomes(report) == {"nan": "failed", "none": "failed"}
    assert "ms" in report["stages"][0]["error"]


def test_all_well_is_zero_and_the_page_has_the_card(card, monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, good("pamr"), code=0)
    page = tmp_path / "page.md"
    page.write_text("before\n{}\nnot measured\n{}\nafter\n".format(*gpu_page.MARKS))
    assert gpu.main(["--from", str(tmp_path / "gpu.json"), "--update", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "not measured" not in text
    assert "a card, 80 GiB, driver 580, CUDA 13.0, 16 cores, torch 2.9" in text
    assert "| speed | >= 2x | 1.0x | **missed** |" in text and "| ours | 1 s |" in text


def test_a_rehearsal_never_gets_onto_the_page(card, monkeypatch, tmp_path):
    with pytest.raises(TTDError, match="--quick"):
        gpu.main(["--quick", "--update", "page.md"])
    report, _ = run(monkeypatch, tmp_path, good("pamr"), code=0)
    (tmp_path / "small.json").write_text(json.dumps({**report, "device": "cpu", "quick": True}))
    with pytest.raises(TTDError, match="not of a run on a GPU"):
        gpu.main(["--from", str(tmp_path / "small.json"), "--update", str(tmp_path / "page.md")])
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(TTDError, match="not a gpu.json"):
        gpu.main(["--from", str(tmp_path / "other.json")])


def test_without_a_card_it_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "machine", lambda: {**MACHINE, "cuda": False})
    with pytest.raises(TTDError, match="sees no GPU here; --quick"):
        gpu.main(["--out", str(tmp_path)])


def test_budgets_fit_into_the_whole():
    assert sum(one.budget for one in STAGES) <= TOTAL - 15  # asking for the card takes some
    assert len({one.name for one in STAGES}) == len(STAGES)
    assert all(not one.json or (ROOT / one.command[0]).exists() for one in STAGES)


def test_counts_of_pytests_last_line():
    assert gpu.counts(["...", "1 failed, 65 passed in 35.48s"]) == {
        "tests failed": 1,
        "tests passed": 65,
    }
    assert gpu.counts([]) == {}


def test_truth_is_judged_by_the_seeds_deviation():
    near = {name: (value + 1.9 * spread) / 100 for name, (value, spread) in bench_truth.CPU.items()}
    far = {name: (value - 2.1 * spread) / 100 for name, (value, spread) in bench_truth.CPU.items()}
    assert [row["met"] for row in bench_truth.goals_of(near)] == [True, True, True]
    assert [row["met"] for row in bench_truth.goals_of(far)] == [False, False, False]


def test_the_shipped_page_has_the_marks():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert all(text.count(mark) == 1 for mark in gpu_page.MARKS)


@pytest.mark.slow
def test_every_stage_runs_in_small_on_the_cpu(tmp_path):
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--quick", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert outcomes(report) == {one.name: "ok" for one in STAGES}, done.stdout
    assert done.returncode == 0 and report["quick"]
    for one in report["stages"]:
        assert one["figures"] and all(map(math.isfinite, one["figures"].values()))
        assert not one["goals"]  # small sizes say nothing
