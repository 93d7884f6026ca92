"""Every benchmark's fast path equals its reference, at small sizes; times are not tested."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import bench_evaluation
import bench_prompts
import bench_startup
import bench_tags
import bench_tcl_step
import bench_ttd_step
import common
import numpy as np
import pytest
import run_all
import torch
from gpu_measures import covered
from paths import ROOT
from small_clip import model_config, write_clip

from core.errors import TTDError

CAPTIONS = ["a red dog, a dog and one extraordinary boat", "tree", "A tree beside the house"]


@pytest.fixture(scope="module")
def arch(tmp_path_factory):
    """A small CLIP with the full vocabulary."""
    folder = tmp_path_factory.mktemp("model")
    write_clip(folder, model_config(text={"vocab_size": 49408}), seed=1)
    return f"local-dir:{folder}"


def options(**values):
    return argparse.Namespace(
        **{"rounds": 1, "device": "cpu", "dtype": "float32", "quick": True, **values}
    )


# --- tags ---
def test_tags_batched_equals_one_word_at_a_time(arch):
    from core.backbones import load_backbone

    backbone = load_backbone(arch)
    images = [
        np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8)
        for i in range(len(CAPTIONS))
    ]
    fast = bench_tags.batched(backbone, images, CAPTIONS, batch=2)
    slow = bench_tags.literal(backbone, images, CAPTIONS)
    assert bench_tags.compare("small", fast, slow, 1e-5) == 9 + 1 + 5
    slow[1]["image"] += 0.1
    with pytest.raises(TTDError, match="differ by 0.1"):
        bench_tags.compare("small", fast, slow, 1e-5)


def test_words_are_not_padded_to_the_captions(arch):
    from core.backbones import load_backbone
    from core.text.encode import encode_texts

    backbone, seen = load_backbone(arch), []
    encode = backbone.encode_tokens
    backbone.encode_tokens = lambda tokens: seen.append((tokens != 0).sum(1)) or encode(tokens)
    texts = [f"{('dog', 'cat')[i % 2]} {i // 2}" for i in range(200)]
    texts += ["a very long caption " * 15] * 3
    together = encode_texts(backbone, texts)
    padding = sum(int(rows.max()) * len(rows) - int(rows.sum()) for rows in seen)
    assert padding < 600  # 13,000 in one batch
    alone = torch.cat([encode_texts(backbone, [text]) for text in (texts[0], texts[37], texts[-1])])
    assert torch.allclose(together[[0, 37, -1]], alone, atol=1e-6)


# --- a training step ---
@pytest.fixture(scope="module")
def case(arch):
    return bench_ttd_step.make_case(options(model=arch, batch=6), None)


def test_a_training_steps_loss_and_gradients_equal_the_loops(case):
    bench_ttd_step.compare(case, 1e-5)
    assert float(bench_ttd_step.ours(case).total.detach()) > 0
    others = bench_ttd_step.Case(case.backbone, case.images, case.captions[1:] + case.captions[:1])
    assert (
        abs(float((bench_ttd_step.ours(case).total - bench_ttd_step.literal(others)).detach()))
        > 1e-5
    )


def test_tcls_step_equals_the_definition(arch, tmp_path):
    args = options(model=arch, batch=2, texts=6, chunk=None)
    case = bench_tcl_step.make_case(args, tmp_path)
    bench_tcl_step.compare(case, args)
    case.texts[1] += 1.0  # of this process
    ours = bench_tcl_step.ours(case, None)
    case.texts[1] -= 1.0
    assert abs(float((ours - bench_tcl_step.literal(case)).detach())) > 1e-4


def test_made_up_captions_share_no_word():
    words = " ".join(bench_ttd_step.made_up(64)).split()
    assert len(words) == len(set(words)) == 640


def test_the_loops_cut_is_otsus():
    from core.tags.selection import select

    for seed in range(20):
        scores = torch.rand(7, generator=torch.Generator().manual_seed(seed))
        assert bench_ttd_step.otsu(scores) == select(scores)[0].tolist()
    assert bench_ttd_step.otsu(torch.tensor([0.3])) == [True]


# --- evaluation ---
def test_one_hot_counts_equal_ours_in_memory_and_from_files(tmp_path):
    pairs = [
        (
            bench_evaluation.label_map((40, 56), 9, 2 * i),
            bench_evaluation.label_map((40, 56), 9, 2 * i + 1),
        )
        for i in range(5)
    ]
    slow = bench_evaluation.one_hot(pairs, 9)
    assert slow.sum() and np.array_equal(slow, bench_evaluation.counted(pairs, 9))
    dataset, predictions = bench_evaluation.write_set(tmp_path, pairs, 9)
    from core.evaluation.label_maps import evaluate

    assert np.array_equal(
        bench_evaluation.columns(evaluate(dataset, predictions, workers=2).confusion), slow
    )
    stored = bench_evaluation.read(dataset, predictions, 5)
    assert np.array_equal(np.array(stored), np.array(pairs))


# --- prompts ---
def test_prompts_cached_and_not_equal_the_full_length_ones(arch, tmp_path):
    from core.backbones import load_backbone

    names = ["cat", "traffic light", "person|human"]
    _, first = bench_prompts.timed_start(load_backbone(arch), names, "OpenAI", tmp_path)
    _, second = bench_prompts.timed_start(load_backbone(arch), names, "OpenAI", tmp_path)
    assert torch.equal(first, second) and len(list(tmp_path.glob("text-*.npz"))) == 1
    assert torch.allclose(first, bench_prompts.literal(load_backbone(arch), names), atol=1e-5)
    assert len(bench_prompts.class_names()) == 171


# --- start-up ---
@pytest.mark.parametrize("script", bench_startup.scripts())
def test_help_imports_nothing_heavy(script):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {
        line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.count("|") == 2
    }
    heavy = imported & {
        "torch",
        "open_clip",
        "torchvision",
        "timm",
        "transformers",
        "peft",
        "cv2",
        "matplotlib",
        "sklearn",
    }
    assert not heavy and "usage" in done.stdout


@pytest.mark.slow
def test_demo_imports_no_more_than_it_needs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "demo.py", "--device", "cpu", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {
        line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.count("|") == 2
    }
    assert "open_clip" in imported and not imported & {
        "peft",
        "cv2",
        "matplotlib",
        "sklearn",
        "nltk",
        "pydensecrf",
    }


# --- all of them ---
def result(**values):
    return {
        "command": "python benchmarks/x.py",
        "date": "2026-01-02T03:04:05+00:00",
        "hardware": "a CPU",
        "versions": {"torch": "2", "numpy": "1"},
        "quick": False,
        "tables": [
            {"columns": ["a|b", "time"], "rows": [["ours", "1 s"], ["theirs", "2 s", "more"]]}
        ],
        "goals": [
            {"what": "x", "goal": ">= 2x", "got": "2.0x", "met": True},
            {"what": "y", "goal": ">= 9x", "got": "2.0x", "met": False},
        ],
        **values,
    }


def test_run_all_puts_results_into_the_page_in_order(tmp_path, capsys):
    (tmp_path / "bench_tags.json").write_text(json.dumps(result()))
    (tmp_path / "bench_pamr.json").write_text(json.dumps(result(goals=[])))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{run_all.MARKS[0]}\nold\n{run_all.MARKS[1]}\nafter\n")
    assert run_all.main(["--from", str(tmp_path), "--update", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.index("### bench_pamr") < text.index("### bench_tags")
    assert "| y | >= 9x | 2.0x | **missed** |" in text and "| a\\|b | time |  |" in text
    assert "2026-01-02." in text and "`python benchmarks/x.py`; a CPU, numpy 1" in text
    assert "missed" in capsys.readouterr().out


def test_run_all_refuses_small_sizes_on_the_page_and_empty_folders(tmp_path):
    with pytest.raises(TTDError, match="no results"):
        run_all.main(["--from", str(tmp_path)])
    (tmp_path / "bench_tags.json").write_text(json.dumps(result()))
    with pytest.raises(TTDError, match="--quick"):
        run_all.main(["--from", str(tmp_path), "--quick", "--update", str(tmp_path / "page.md")])


def test_the_shipped_page_has_the_marks():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.count(run_all.MARKS[0]) == text.count(run_all.MARKS[1]) == 1


def test_a_failing_benchmark_is_named(tmp_path, monkeypatch, capsys):
    def broken(argv):
        raise TTDError("scores: the fast path and the reference differ")

    monkeypatch.setattr(bench_tags, "main", broken)
    monkeypatch.setattr(
        bench_evaluation, "main", lambda argv: Path(argv[-1]).write_text(json.dumps(result())) and 0
    )
    with pytest.raises(TTDError, match="failed: bench_tags$"):
        run_all.main(
            ["--quick", "--only", "bench_tags", "bench_evaluation", "--out", str(tmp_path)]
        )
    assert "differ" in capsys.readouterr().err


def test_the_share_of_time_that_spans_cover():
    assert covered([]) == 0 and covered([(3, 3)]) == 0
    assert covered([(0, 1), (2, 4)]) == 0.75 and covered([(5, 9), (0, 10), (1, 2), (10, 20)]) == 1


def test_json_holds_tables_goals_and_the_command(tmp_path, capsys):
    args = common.start(
        common.parser(None), ["--threads", "1", "--json", str(tmp_path / "x.json"), "--rounds", "2"]
    )
    table = common.Table("path", "time")
    table.row("ours", common.Time(0.25))
    common.save(
        args,
        [table],
        [
            common.goal("x", 2, common.Time(1.0), common.Time(0.25)),
            common.goal_below("y", 1, 1.5, " s"),
        ],
    )
    stored = json.loads((tmp_path / "x.json").read_text())
    assert stored["tables"] == [{"columns": ["path", "time"], "rows": [["ours", "250 ms"]]}]
    assert [goal["met"] for goal in stored["goals"]] == [True, False]
    assert (
        stored["command"].endswith("--threads 1 --rounds 2") and ", 1 thread," in stored["hardware"]
    )
    assert "MISSED  y: 1.5 s, goal <= 1 s" in capsys.readouterr().out


@pytest.mark.slow
def test_two_jobs_at_once(tmp_path, monkeypatch):
    import bench_two_jobs

    monkeypatch.setenv("GOMP_SPINCOUNT", "12")
    assert bench_two_jobs.main(["--quick", "--json", str(tmp_path / "x.json")]) == 0
    rows = json.loads((tmp_path / "x.json").read_text())["tables"][0]["rows"]
    name, alone, both, slower, share = rows[0]
    assert name == "1,000 rounds" and len(rows) == 1
    assert float(slower.rstrip("x")) == pytest.approx(float(alone) / float(both), rel=0.3, abs=0.1)
    assert float(share) == pytest.approx(2 * float(both) / float(alone), rel=0.3)
    assert os.environ["GOMP_SPINCOUNT"] == "12"


@pytest.mark.slow
def test_workers_and_one_process_make_the_same_masks(tmp_path, capsys):
    import bench_workers

    assert bench_workers.main(["--quick", "--json", str(tmp_path / "x.json")]) == 0
    rows = json.loads((tmp_path / "x.json").read_text())["tables"][0]["rows"]
    assert [row[0] for row in rows] == [
        "1 process, 1 thread, 2 images",
        "1 process, 1 thread, 8 images",
        "2 workers, 8 images",
    ]


def test_references_do_not_compute_in_tf32():
    """cuDNN's default would put a published PAMR on a GPU 1e-3 off."""
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        common.start(common.parser(None), [])
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
