"""The demo from its command line: panels, tables, one-line messages and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

import demo
from core.errors import TTDError
from core.plots.panel_plan import plan
from core.predictor import Row, score_words
from tools.cli import choose_device
from tools.demo_panel import _columns, cut_of, table

COCO = ROOT.parent / "shared" / "data" / "coco_mini"
PUBLISHED = [
    "--arch",
    "TCL",
    "--tags",
    "flame",
    "smoke",
    "--scales",
    "1.0",
    "0.5",
    "1.5",
    "2.0",
    "--image",
    "448",
    "--pamr",
    "--lora",
    "./weights/TCL+TTD.pt",
]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def arguments(small_clip, tmp_path):
    """Options of a small random model, and the folder for panels."""
    return ["--arch", f"local-dir:{small_clip}", "--device", "cpu", "--out", str(tmp_path / "out")]


def test_a_panel_and_a_table(arguments, picture, tmp_path, capsys):
    assert (
        demo.main(
            [*arguments, "--input", str(picture), "--tags", "dog", "red ball", "--pamr", "--hflip"]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert Image.open(tmp_path / "out" / "a.png").width == plan(30, 40, 2).width
    assert "scales [1.0], flip, pamr, cpu, float32" in lines[0]
    rows = [line.split() for line in lines if line.lstrip()[:1] in ("1", "2")]
    assert [row[1] for row in rows] == ["dog", "red"] and len(rows) == 2
    assert sorted(float(row[-4] if "*" in row else row[-3]) for row in rows) == [
        0,
        1,
    ]  # min-max of two scores


def test_the_table_says_what_the_predictor_says(arguments, picture):
    args = demo.get_args_parser().parse_args(
        [*arguments, "--input", str(picture), "--text", "A dog. a cat, a dog"]
    )
    (job,), predictor = demo.plan_jobs(args), demo.make_predictor(args, 1)
    assert job.words == ("A", "dog", "a", "cat", "a", "dog")
    predictor.set_image(job.path)
    rows = score_words(predictor, job.words, job.caption)
    assert [row.text for row in rows] == [
        "A dog. a cat, a dog",
        "A",
        "dog",
        "cat",
    ]  # each word once
    maps = predictor.maps([row.text for row in rows])
    raw = predictor.scores(["A", "dog", "cat"])
    for row, heat in zip(rows, maps, strict=True):
        assert abs(row.score - heat.max()) < 0.2 and heat[row.y, row.x] > heat.mean()
    expected = (raw - raw.min()) / (raw.max() - raw.min())
    np.testing.assert_allclose([row.norm for row in rows[1:]], expected, atol=1e-5)
    assert rows[0].norm is None and {row.selected for row in rows[1:]} == {True, False}


def test_same_command_same_files(arguments, picture, tmp_path):
    command = [*arguments, "--input", str(picture), "--text", "a dog on grass", "--overlay"]
    demo.main(command)
    first = (tmp_path / "out" / "a.png").read_bytes()
    demo.main(command)
    assert (tmp_path / "out" / "a.png").read_bytes() == first


def test_a_jsonl_gives_each_picture_its_first_caption(arguments, picture, tmp_path, capsys):
    lines = [
        {"image": "a.png", "captions": ["a dog", "second"]},
        {"image": "a.png", "text": "two cats"},
    ]
    (picture.parent / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert demo.main([*arguments, "--input", str(picture.parent / "list.jsonl")]) == 0
    captured = capsys.readouterr()
    assert (
        "first one is used" in captured.err
        and captured.out.count("a dog") == 1
        and "second" not in captured.out
    )
    assert sorted(os.listdir(tmp_path / "out")) == ["a-2.png", "a.png"]


def test_a_broken_picture_does_not_stop_a_batch(arguments, picture, tmp_path, capsys):
    (picture.parent / "b.png").write_bytes(picture.read_bytes()[:500])
    (picture.parent / "c.jpg").write_text("no image")
    assert demo.main([*arguments, "--input", str(picture.parent), "--tags", "dog"]) == 2
    captured = capsys.readouterr()
    assert os.listdir(tmp_path / "out") == ["a.png"]
    assert "b.png: truncated" in captured.err and "c.jpg: not an image" in captured.err
    assert "2 of 3 images failed" in captured.err
    with pytest.raises(TTDError, match="truncated"):
        demo.main([*arguments, "--input", str(picture.parent / "b.png"), "--tags", "dog"])


def test_a_picture_without_words_does_not_stop_a_batch(arguments, picture, tmp_path, capsys):
    lines = [{"image": "a.png"}, {"image": "a.png", "text": "two cats"}]
    (picture.parent / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert demo.main([*arguments, "--input", str(picture.parent / "list.jsonl")]) == 2
    assert "no caption" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--tags", " "], ["--text", "... !"]])
def test_no_words_is_one_line(picture, tmp_path, options):
    with pytest.raises(TTDError, match="no words"):
        demo.main(["--input", str(picture), "--out", str(tmp_path / "out"), *options])


def test_panels_never_take_each_others_name_nor_a_pictures(tmp_path):
    out = tmp_path / "out"
    pictures = [Path("x/a.png"), Path("y/A.jpg"), Path("z/a.gif"), out / "b.png", Path("b.png")]
    names = [path.name for path in demo.panel_names(pictures, out)]
    assert names == ["a.png", "A-2.png", "a-3.png", "b-2.png", "b-3.png"]


def test_bad_options_are_one_line(arguments, picture, tmp_path):
    for options, message in [
        (["--pamr", "--crf"], "one of them"),
        (["--out", str(picture)], "folder"),
        (["--head", "magic"], "magic"),
        (["--text", " "], "--text is empty"),
        (["--image", "7"], "less than one patch"),
        (["--image", "64", "--scales", "1.0", "0.01"], "1 pixels are less than one patch"),
    ]:
        with pytest.raises(TTDError, match=message):
            demo.main(["--input", str(picture), "--tags", "dog", *arguments, *options])


@pytest.mark.parametrize(
    "options", [["--image", "0"], ["--scales", "-1"], ["--scales", "nan"], ["--dtype", "int8"]]
)
def test_argparse_refuses_nonsense(options):
    with pytest.raises(SystemExit) as caught:
        demo.main(options)
    assert caught.value.code == 2


def test_gpus_falls_back_to_the_cpu_and_says_so_once(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device(None, "0") == "cpu"
    assert capsys.readouterr().err.count("CPU") == 1
    with pytest.raises(TTDError, match="GPU number"):
        choose_device(None, "x")
    assert choose_device("mps", "0") == "mps" and choose_device(None, None) is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device(None, "1,2") == "cuda:1"


@pytest.mark.parametrize("text", ["dog", "한국어", "e\u0301te\u0301"])
def test_columns_of_the_table_line_up(text):
    def columns(line):
        return _columns(line.split("  0.500")[0])

    rows = [Row(name, 0.5, 1.0, True, 3, 4) for name in (text, "a longer one")]
    assert len({columns(line) for line in table(rows).splitlines()[1:]}) == 1


def test_the_cut_lies_between_kept_and_rejected_words():
    rows = [Row("a", score, 0.5, kept, 0, 0) for score, kept in ((0.1, False), (0.3, True))]
    assert cut_of(rows).score == pytest.approx(0.2) and "Otsu" in cut_of(rows).reason
    assert cut_of(rows, 0.25).score == 0.25 and cut_of(rows, 0.25).reason == "--min-score"
    assert cut_of(rows, 0.05).score == pytest.approx(0.2)
    assert cut_of(rows[:1], 0.2).score == 0.2  # all are rejected
    assert cut_of(rows[:1]) is None and cut_of(rows[1:]) is None


def test_a_panel_as_svg_has_the_caption_and_the_kept_words(arguments, picture, tmp_path):
    command = ["--input", str(picture), "--text", "a dog on <grass>", "--format", "svg"]
    assert demo.main([*arguments, *command]) == 0
    assert os.listdir(tmp_path / "out") == ["a.svg"]
    content = (tmp_path / "out" / "a.svg").read_text(encoding="utf-8")
    assert "“a dog on &lt;grass&gt;”" in content and "whole caption" in content


def test_grounding_draws_png_only(picture, tmp_path):
    command = ["--input", str(picture), "--ground", "a dog", "--format", "svg"]
    with pytest.raises(TTDError, match="PNG only"):
        demo.main([*command, "--out", str(tmp_path / "out")])


def script(*arguments, **options):
    """Run demo.py as a user does, on the CPU and offline."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, ROOT / "demo.py", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        **options,
    )


def test_help_needs_no_torch():
    result = script("--help")
    assert result.returncode == 0 and "--overlay" in result.stdout
    probe = (
        "import sys, demo; demo.get_args_parser(); "
        "sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT).returncode == 0


def test_a_missing_input_is_one_line_on_stderr_and_exit_2(tmp_path):
    result = script("--input", "nowhere.jpg", "--tags", "dog", cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.splitlines() == [
        "demo.py: no such file, folder or pattern: nowhere.jpg; check the path"
    ]
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_the_published_command_is_understood(tmp_path):
    if (ROOT / "weights" / "TCL+TTD.pt").exists():
        pytest.skip("the adapter is here: the command would really run")
    result = script(*PUBLISHED, cwd=tmp_path)
    assert (
        result.returncode == 2
        and len(result.stderr.splitlines()) == 1
        and "--arch tiny" in result.stderr
    )


@pytest.mark.slow
def test_a_device_that_is_not_there_is_one_line(tmp_path):
    result = script("--device", "cuda", cwd=tmp_path)
    assert (
        result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "cuda" in result.stderr
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / "weights" / "tiny" / "open_clip_model.safetensors").exists(),
    reason="weights/tiny is not there",
)
def test_the_demo_alone(tmp_path):
    result = script(cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    caption = json.loads((ROOT / "weights" / "tiny" / "demo.json").read_text())["text"]
    assert all(word.strip(",.") in result.stdout for word in caption.split())
    assert os.listdir(tmp_path / "out") == ["demo.png"]


@pytest.mark.slow
@pytest.mark.skipif(not COCO.exists(), reason=f"needs the photographs of {COCO.name}")
def test_every_photograph_goes_through(arguments, tmp_path):
    captions = COCO / "captions.jsonl"
    captioned = {json.loads(line)["image"] for line in captions.read_text().splitlines()}
    others = [
        str(path) for path in sorted((COCO / "images").iterdir()) if path.name not in captioned
    ]
    assert demo.main([*arguments, "--pamr", "--input", str(captions)]) == 0
    assert demo.main([*arguments, "--pamr", "--input", *others, "--tags", "dog", "cat"]) == 0
    assert len(captioned) == 50 and len(others) == 12
    for path in (COCO / "images").iterdir():
        picture, panel = Image.open(path), Image.open(tmp_path / "out" / f"{path.stem}.png")
        assert panel.width > picture.width and panel.height > picture.height


def test_entities_are_the_characters_that_the_tokenizer_reads(tmp_path):
    rows = [{"image": "a.png", "text": "a &quot;red&quot; cat &amp;amp; dog"}]
    (tmp_path / "list.jsonl").write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    common = ["--input", str(tmp_path / "list.jsonl"), "--out", str(tmp_path)]
    parser = demo.get_args_parser()
    (job,) = demo.plan_jobs(parser.parse_args(common))
    assert job.words == ("a", "red", "cat", "dog") and job.caption == 'a "red" cat & dog'
    (job,) = demo.plan_jobs(parser.parse_args([*common, "--text", "Tom &amp; Jerry&#39;s cat"]))
    assert job.words == ("Tom", "Jerry's", "cat") and job.caption == "Tom & Jerry's cat"
