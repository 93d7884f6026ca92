"""The two scripts from their command lines: names, files, resumption after a kill, shards, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from small_clip import model_config, write_clip

PICTURES = 7


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((40 + seed, 33), Image.Resampling.BILINEAR)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small model, a YAML set of PICTURES images and the same images with captions."""
    folder = tmp_path_factory.mktemp("masks")
    write_clip(
        folder / "model",
        model_config(text={"vocab_size": 49408}),
        seed=1,
        ttd={"mask_scale": 8.0, "mask_bias": -0.35},
    )
    images = folder / "set" / "images"
    images.mkdir(parents=True)
    rows = []
    for i in range(PICTURES):
        picture(i).save(images / f"p{i}.png")
        rows.append({"image": f"images/p{i}.png", "text": f"a dog, a red cat and {i} boats"})
    (folder / "set" / "set.yaml").write_text(
        "name: pets\nimages: images\nclasses: [dog, cat|kitten, boat, tree]\n"
        "background: 0\nignore: 255\nbg: 0.4\n"
    )
    (folder / "set" / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(place, out, *options, script="tags", data=None):
    data = data or place / "set" / ("set.yaml" if script == "tags" else "captions.jsonl")
    return [
        sys.executable,
        str(ROOT / f"produce_masks_from_{script}.py"),
        "--arch",
        f"local-dir:{place / 'model'}",
        "--data",
        str(data),
        "--out",
        str(out),
        "--device",
        "cpu",
        *map(str, options),
    ]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def call(place, out, *options, env=None, **kwargs):
    environment = ENVIRONMENT | {"TTD_CACHE": str(place / "cache")} | (env or {})
    return subprocess.run(
        command(place, out, *options, **kwargs),
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )


def run_here(capsys, place, out, *options, script="tags", data=None):
    """The script's main in this process: (exit code, stdout, error message)."""
    import importlib

    from core.errors import TTDError

    module = importlib.import_module(f"produce_masks_from_{script}")
    try:
        code, said = module.main(command(place, out, *options, script=script, data=data)[2:]), ""
    except TTDError as error:
        code, said = 2, str(error)
    printed = capsys.readouterr()
    return code, printed.out, said + printed.err


@pytest.fixture(autouse=True)
def own_cache(place, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(place / "cache"))


def masks(out: Path) -> dict[str, bytes]:
    """The bytes of every mask in the one result folder of `out`."""
    (folder,) = out.iterdir()
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """Label maps of all images by one uninterrupted run: the folder."""
    out = tmp_path_factory.mktemp("whole")
    result = call(place, out, "--pamr", "--hflip", "--save-scores", "--rle")
    assert result.returncode == 0, result.stderr
    return out


def test_label_maps_names_and_protocol(place, whole):
    (folder,) = whole.iterdir()
    arch = str(place / "model").replace("/", "_")
    assert folder.name == f"local-dir_{arch}@pets@OpenAI@[1.0]@64@s=2@hflip@pamr@bg=0.40"
    assert sorted(path.name for path in folder.glob("*.png")) == [
        f"p{i}.png" for i in range(PICTURES)
    ]
    seen = set()
    for i in range(PICTURES):
        image = Image.open(folder / f"p{i}.png")
        assert image.mode == "P" and image.size == (40 + i, 33)
        seen |= set(np.unique(np.asarray(image)).tolist())
    assert seen <= {0, 1, 2, 3, 4} and len(seen) > 2
    stored = json.loads((folder / "protocol.json").read_text())
    assert (
        stored["identity"]["bg"] == 0.4
        and stored["identity"]["hflip"] is True
        and stored["identity"]["image"] == 64
    )
    assert (
        stored["model"]["checksum"]
        and stored["versions"]["torch"]
        and "--pamr" in stored["command"]
    )
    entries = json.loads((folder / "rle.json").read_text())
    pixels = sum(sum(e["segmentation"]["counts"][1::2]) for e in entries)
    assert pixels == sum(
        int((np.asarray(Image.open(path)) > 0).sum()) for path in folder.glob("*.png")
    )


def test_labels_follow_from_the_saved_scores(whole):
    """Arg-max of the stored maps with the background at 0.40 in front gives the stored label map."""
    (folder,) = whole.iterdir()
    for i in range(PICTURES):
        with np.load(folder / "scores" / f"p{i}.npz") as stored:
            maps, classes = stored["maps"].astype(np.float32), stored["classes"]
        labels = np.concatenate([[0], classes + 1])
        stack = np.concatenate([np.full_like(maps[:1], 0.4), maps])
        clear = np.diff(np.sort(stack, 0)[-2:], axis=0)[0] > 2e-3  # float16 may decide elsewhere
        want = labels[stack.argmax(0)]
        assert (np.asarray(Image.open(folder / f"p{i}.png")) == want)[
            clear
        ].all() and clear.mean() > 0.5


def test_masks_equal_the_library_called_directly(place, whole):
    """Backbone.masks, mirrored and not, one window: by hand, without this project's inference code."""
    import torch

    from core.backbones import load_backbone
    from core.data.images import read_image
    from core.maps.resize import resized_tensor
    from core.refine.pamr import PAMR
    from core.text.prompts import embed_classes

    torch.set_num_threads(1)
    backbone = load_backbone(f"local-dir:{place / 'model'}")
    text = embed_classes(backbone, ["dog", "cat|kitten", "boat", "tree"])
    pixels = read_image(
        place / "set" / "images" / "p3.png"
    )  # 43 x 33 -> 83 x 64: windows 0..64, 19..83
    image = backbone.normalize(resized_tensor(pixels, 64)[None])
    assert image.shape[-2:] == (64, 83)
    summed, count = torch.zeros(1, 4, 64, 83), torch.zeros(83)
    for left in (0, 19):
        crop = image[..., left : left + 64]
        both = (backbone.masks(crop, text) + backbone.masks(crop.flip(-1), text).flip(-1)) / 2
        summed[..., left : left + 64] += both
        count[left : left + 64] += 1
    soft = torch.nn.functional.interpolate(summed / count, size=(33, 43), mode="bilinear")
    soft = PAMR()(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, soft)[0]
    stack = torch.cat([torch.full_like(soft[:1], 0.4), soft])
    clear = stack.topk(2, 0).values.diff(dim=0).abs()[0] > 1e-5
    (folder,) = whole.iterdir()
    labels = torch.from_numpy(np.array(Image.open(folder / "p3.png"))).long()
    assert (labels == stack.argmax(0))[clear].all() and clear.float().mean() > 0.99


@pytest.mark.slow
def test_shards_and_torchrun_ranks_make_the_same_files(place, whole, tmp_path):
    result = call(place, tmp_path / "two", "--pamr", "--hflip", "--workers", 2)
    assert result.returncode == 0, result.stderr
    assert masks(tmp_path / "two") == masks(whole)
    ranks = {"WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "r"}
    first = subprocess.Popen(
        command(place, tmp_path / "ranks", "--pamr", "--hflip"),
        stderr=subprocess.PIPE,
        env=ENVIRONMENT | ranks | {"RANK": "0", "TTD_CACHE": str(place / "cache")},
    )
    second = call(place, tmp_path / "ranks", "--pamr", "--hflip", env=ranks | {"RANK": "1"})
    assert second.returncode == 0, second.stderr
    assert first.wait() == 0, first.stderr.read()
    assert masks(tmp_path / "ranks") == masks(whole)


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again(place, whole, tmp_path):
    """kill -9 while images are being made; the same command then gives the files of an uninterrupted run."""
    options = ("--pamr", "--hflip", "--save-scores", "--rle")
    environment = ENVIRONMENT | {"TTD_CACHE": str(place / "cache")}
    for count in (0, 1, 4):  # masks there when it is killed
        out = tmp_path / str(count)
        process = subprocess.Popen(
            command(place, out, *options), env=environment, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and len(list(out.glob("*/*.png"))) < count:
            time.sleep(0.002)
        if count == 0:
            time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in out.glob("*/[!.]*.png"):  # whatever is there is whole
            Image.open(path).load()
        result = call(place, out, *options)
        assert result.returncode == 0, result.stderr
        assert masks(out) == masks(whole)
        (folder,) = out.iterdir()
        assert not list(folder.rglob("*.part"))
        assert (folder / "rle.json").read_bytes() == (
            next(whole.iterdir()) / "rle.json"
        ).read_bytes()


@pytest.mark.slow
def test_workers_end_with_their_parent(place, tmp_path):
    """After a kill -9 of the parent its workers go away, and the folder is free for the next run."""
    environment = ENVIRONMENT | {"TTD_CACHE": str(place / "cache")}
    process = subprocess.Popen(
        command(place, tmp_path, "--workers", 2, "--scales", 3),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(tmp_path.glob("*/*.png")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while (
        result := call(place, tmp_path, "--scales", 3)
    ).returncode and time.monotonic() < deadline:
        assert "another run is writing" in result.stderr
    assert result.returncode == 0, result.stderr


def test_what_is_there_is_kept(capsys, place, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.png")}
    code, out, _ = run_here(capsys, place, whole, "--pamr", "--hflip", "--save-scores")
    assert code == 0 and "0 masks in" in out and f"{PICTURES} were there already" in out
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.png")} == before


def test_a_broken_mask_is_made_again(capsys, place, whole):
    (folder,) = whole.iterdir()
    data = (folder / "p2.png").read_bytes()
    (folder / "p2.png").write_bytes(data[:-5])
    code, out, _ = run_here(capsys, place, whole, "--pamr", "--hflip", "--save-scores")
    assert code == 0 and "1 masks in" in out and (folder / "p2.png").read_bytes() == data


def test_a_locked_folder_is_refused_in_one_line(capsys, place, whole):
    from core.masks.results import META, MaskFolder

    (folder,) = whole.iterdir()
    held = MaskFolder(folder, json.loads((folder / META).read_text()), "somebody else")
    code, _, said = run_here(capsys, place, whole, "--pamr", "--hflip")
    held.close()
    assert code == 2 and "another run is writing this result" in said and "\n" not in said.strip()


def test_other_weights_are_refused(capsys, place, tmp_path):
    assert run_here(capsys, place, tmp_path, "--limit", 1)[0] == 0
    (folder,) = tmp_path.iterdir()
    stored = json.loads((folder / "protocol.json").read_text())
    stored["identity"]["checksum"] = "of other weights"
    (folder / "protocol.json").write_text(json.dumps(stored))
    code, _, said = run_here(capsys, place, tmp_path, "--limit", 1)
    assert code == 2 and 'checksum: "of other weights", not' in said and "--overwrite" in said
    assert run_here(capsys, place, tmp_path, "--limit", 1, "--overwrite")[0] == 0


def test_the_same_pictures_by_another_path_and_others_by_the_same(
    place, tmp_path, capsys, monkeypatch
):
    """What counts is where the images are, not how --data and --root are written."""
    import shutil

    for name in ("a", "b"):
        shutil.copytree(place / "set", tmp_path / name)
    for script, data in (("tags", "set.yaml"), ("text", "captions.jsonl")):

        def made(folder, data, *options, script=script):
            monkeypatch.chdir(tmp_path / folder)
            return run_here(
                capsys,
                place,
                tmp_path / f"out_{script}",
                "--limit",
                1,
                *options,
                script=script,
                data=data,
            )

        assert made("a", data)[0] == 0
        assert "1 were there already" in made("b", f"../a/{data}", "--root", tmp_path)[1]
        code, _, said = made("b", data)
        assert code == 2 and "pictures: " in said and "--overwrite" in said


def test_inputs_of_captions_by_pattern(place, tmp_path, capsys, monkeypatch):
    import io
    import tarfile

    (tmp_path / "s").mkdir()
    for i in range(2):
        with tarfile.open(tmp_path / "s" / f"{i}.tar", "w") as tar:
            tar.add(place / "set" / "images" / f"p{i}.png", f"k{i}.png")
            caption = tarfile.TarInfo(f"k{i}.txt")
            caption.size = 5
            tar.addfile(caption, io.BytesIO(b"a dog"))
    monkeypatch.chdir(tmp_path)
    code, printed, _ = run_here(capsys, place, tmp_path / "out", script="text", data="s/{0..1}.tar")
    assert (
        code == 0
        and "2 webdataset shards" in printed
        and set(masks(tmp_path / "out")) == {"k0.png", "k1.png"}
    )
    code, _, said = run_here(capsys, place, tmp_path / "out", script="text", data="nothing")
    assert code == 2 and "neither CC3M nor World, nor a folder, list or shards" in said


def test_unreadable_pictures_are_skipped_listed_and_counted(capsys, place, tmp_path):
    import shutil

    shutil.copytree(place / "set", tmp_path / "set")
    (tmp_path / "set" / "images" / "p1.png").write_bytes(b"no picture")
    code, out, said = run_here(capsys, place, tmp_path / "out", data=tmp_path / "set" / "set.yaml")
    assert code == 2 and f"{PICTURES - 1} masks" in out and "1 images could not be used" in said
    (folder,) = (tmp_path / "out").iterdir()
    (entry,) = [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]
    assert entry["id"] == "p1" and "p1.png" in entry["reason"]
    assert not (folder / "p1.png").exists()


def test_no_rule_and_a_threshold_on_sets_without_background(capsys, place, tmp_path):
    """Rule none never writes the background; a forced threshold writes 255 where there is no class 0."""
    import shutil

    shutil.copytree(place / "set", tmp_path / "set")
    data = tmp_path / "set" / "set.yaml"
    data.write_text(
        "name: pets\nimages: images\nclasses: [dog, cat, boat, tree]\nbackground: null\nbg: 0.9\n"
    )
    assert run_here(capsys, place, tmp_path / "a", data=data)[0] == 0
    assert run_here(capsys, place, tmp_path / "b", "--bg-rule", "threshold", data=data)[0] == 0
    values = [
        set(
            np.unique(
                [v for p in (tmp_path / x).glob("*/*.png") for v in np.unique(Image.open(p))]
            ).tolist()
        )
        for x in "ab"
    ]
    assert values[0] <= {0, 1, 2, 3} and len(values[0]) > 1
    assert 255 in values[1] and values[1] <= {0, 1, 2, 3, 255}
    assert next((tmp_path / "b").iterdir()).name.endswith("@bg=0.90@rule=threshold")


def test_masks_of_captions(capsys, place, tmp_path):
    import torch

    from core.backbones import load_backbone
    from core.data.images import read_image
    from core.maps.resize import resized_tensor

    code, _, said = run_here(capsys, place, tmp_path, "--bg", 0.5, script="text")
    assert code == 0, said
    (folder,) = tmp_path.iterdir()
    assert "@captions@OpenAI@[1.0]@64@s=2@bg=0.50" in folder.name
    backbone = load_backbone(f"local-dir:{place / 'model'}")
    text = backbone.encode_text(["a dog, a red cat and 0 boats"])  # as it stands, no template
    pixels = read_image(place / "set" / "images" / "p0.png")
    image = backbone.normalize(resized_tensor(pixels, 64)[None])
    assert image.shape[-1] == 78  # windows 0..64 and 14..78
    summed, count = torch.zeros(1, 1, 64, 78), torch.zeros(78)
    for left in (0, 14):
        summed[..., left : left + 64] += backbone.masks(image[..., left : left + 64], text)
        count[left : left + 64] += 1
    soft = torch.nn.functional.interpolate(summed / count, size=pixels.shape[:2], mode="bilinear")[
        0, 0
    ]
    mask = np.asarray(Image.open(folder / "images_p0.png"))
    clear = ((soft - 0.5).abs() > 1e-5).numpy()
    assert set(np.unique(mask)) <= {0, 255} and ((mask == 255) == (soft > 0.5).numpy())[clear].all()


def test_masks_of_selected_words_are_a_union(capsys, place, tmp_path):
    """Foreground = some kept word's map is above the threshold; kept words as produce_tags_from_text.py keeps them."""
    from core.backbones import load_backbone
    from core.data.images import read_image
    from core.maps.views import prepare
    from core.masks.merge import merge
    from core.masks.protocol import protocol
    from core.tags.scoring import score_batch
    from core.tags.selection import select
    from core.text.encode import encode_texts

    code, _, said = run_here(capsys, place, tmp_path, "--tags", "selected", script="text")
    assert code == 0, said
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith("@bg=0.40@tags=selected")
    backbone = load_backbone(f"local-dir:{place / 'model'}")
    used = protocol("ttd").resolve("x", 32, "threshold", 0.4)
    for i in range(3):
        pixels = read_image(place / "set" / "images" / f"p{i}.png")
        scored = score_batch(backbone, [pixels], [f"a dog, a red cat and {i} boats"], ["pixel"])[0]
        kept, _ = select(scored.scores["pixel"])
        words = [word.text for word, keep in zip(scored.words, kept.tolist(), strict=True) if keep]
        assert 0 < len(words) < len(scored.words)
        each = [
            merge(
                backbone, prepare(pixels, used.views), encode_texts(backbone, [word]), used
            ).at_image_size([0])
            for word in words
        ]
        want = np.logical_or.reduce([one[0].numpy() > 0.4 for one in each])
        clear = np.logical_and.reduce([np.abs(one[0].numpy() - 0.4) > 1e-5 for one in each])
        assert ((np.asarray(Image.open(folder / f"images_p{i}.png")) == 255) == want)[clear].all()


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("text", ("--bg-rule", "none"), "no other rule"),
        ("text", ("--protocol", "naclip"), "compares classes"),
        ("tags", ("--templates", "mine"), "unknown template set"),
        ("tags", ("--bg", "7"), "[0, 1]"),
        ("tags", ("--gpus", "zero", "--device"), "not GPU numbers"),
        ("tags", ("--pamr", "--crf"), "choose one"),
    ],
)
def test_wrong_options_are_one_line(capsys, place, tmp_path, script, options, said):
    if options[-1] == "--device":  # so that --gpus counts
        line = [
            part
            for part in command(place, tmp_path, script=script)[2:]
            if part not in ("--device", "cpu")
        ]
        import produce_masks_from_tags as module
        from core.errors import TTDError

        with pytest.raises(TTDError, match=said):
            module.main([*line, *options[:-1]])
        return
    code, _, printed = run_here(capsys, place, tmp_path, *options, script=script)
    assert code == 2 and said in printed and "\n" not in printed.strip()
    assert not list(tmp_path.rglob("*.png"))


def test_published_lines_parse(monkeypatch):
    """Every flag of the published commands, word for word."""
    import shlex

    import produce_masks_from_tags
    import produce_masks_from_text
    from tools.mask_options import make_protocol

    flags = (
        "--gpus 0 --root ../ --data {} --arch TCL --bg 0.40 --scales 1.0 0.5 1.5 2.0 --hflip --pamr "
        "--lora ./weights/TCL+TTD.pt"
    )
    for module, data, out in (
        (produce_masks_from_tags, "VOC2012", "results"),
        (produce_masks_from_text, "CC3M", "results_caption"),
    ):
        args = module.get_args_parser().parse_args(shlex.split(flags.format(data)))
        used = make_protocol(args)
        assert (args.gpus, args.root, args.data, args.arch, str(args.out)) == (
            ["0"],
            "../",
            data,
            "TCL",
            out,
        )
        assert (used.background_threshold, used.scales, used.hflip, used.pamr) == (
            0.4,
            (1.0, 0.5, 1.5, 2.0),
            True,
            True,
        )


def test_shards_are_planned_as_asked(monkeypatch):
    import produce_masks_from_tags as module
    from tools.mask_shards import plan

    def planned(*options):
        args = module.get_args_parser().parse_args(["--data", "x", *options])
        return [(shard.rank, shard.world, shard.device) for shard in plan(args)]

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert planned("--gpus", "0", "1", "3") == [
        (0, 3, "cuda:0"),
        (1, 3, "cuda:1"),
        (2, 3, "cuda:3"),
    ]
    assert planned("--gpus", "0,1") == [(0, 2, "cuda:0"), (1, 2, "cuda:1")]
    assert planned() == [(0, 1, None)]
    assert planned("--device", "cpu", "--workers", "2") == [(0, 2, "cpu"), (1, 2, "cpu")]
    for key, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(key, value)
    assert planned() == [(5, 8, "cuda:1")]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert planned("--gpus", "0") == [(5, 8, "cpu")]


@pytest.mark.parametrize(
    ("ranks", "world", "said"),
    [
        ([0], 1, "1 masks in "),
        ([0, 1], 2, "1 masks in "),
        ([0], 2, "1 masks by the first of 2 processes in "),
        ([1], 2, ""),
    ],
)
def test_what_a_process_says_it_made(capsys, ranks, world, said):
    """Under torchrun a process knows of its own share only, and only the first speaks."""
    from tools.mask_progress import Progress
    from tools.mask_shards import Shard

    progress = Progress([Shard(rank, world, "cpu", "token") for rank in ranks])
    progress(
        "begin",
        {
            "description": "set",
            "path": "place",
            "all": 1,
            "kept": 0,
            "settings": {},
            "device": "cpu",
        },
    )
    progress("step", {"made": 1})
    assert progress.finish() == 0
    printed = capsys.readouterr().out
    assert said in printed and bool(printed) == bool(said)
