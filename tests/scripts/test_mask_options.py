"""The scripts that make masks: inputs, options, refusals, captions, and how work is shared."""

import json

import numpy as np
import pytest
from mask_scripts import PICTURES, command, masks, run_here
from PIL import Image


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
    """Rule none never writes the background; a forced threshold writes 255 without a class 0."""
    import shutil

    shutil.copytree(place / "set", tmp_path / "set")
    data = tmp_path / "set" / "set.yaml"
    data.write_text(
        "name: pets\nimages: images\nclasses: [dog, cat, boat, tree]\nbackground: null\nbg: 0.9\n"
    )
    assert run_here(capsys, place, tmp_path / "a", data=data)[0] == 0
    assert run_here(capsys, place, tmp_path / "b", "--bg-rule", "threshold", data=data)[0] == 0
    values = [set(), set()]
    for found, run in zip(values, "ab", strict=True):
        for path in (tmp_path / run).glob("*/*.png"):
            found |= set(np.unique(Image.open(path)).tolist())
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
    """Foreground: some word's map is above the threshold, of those that tag production keeps."""
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
        "--gpus 0 --root ../ --data {} --arch TCL --bg 0.40 --scales 1.0 0.5 1.5 2.0 "
        "--hflip --pamr --lora ./weights/TCL+TTD.pt"
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


def test_a_models_own_defaults_act_where_no_flag_says_otherwise(capsys, place, tmp_path):
    """Flag before the config, the config before the set; printed and recorded; ttd alone."""
    import shutil

    model = tmp_path / "model"
    shutil.copytree(place / "model", model)
    config = json.loads((model / "open_clip_config.json").read_text())
    config["ttd"]["defaults"] = {"image": 40, "templates": "identity", "bg": 0.55}
    (model / "open_clip_config.json").write_text(json.dumps(config))

    def made(*options, script="tags"):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        arch = ("--arch", f"local-dir:{model}", "--limit", 1)
        code, printed, _ = run_here(capsys, place, out, *arch, *options, script=script)
        (folder,) = out.iterdir()
        return code, printed, folder.name, json.loads((folder / "protocol.json").read_text())

    code, printed, name, stored = made()
    assert code == 0 and "@identity@[1.0]@40@s=2@bg=0.55" in name
    assert stored["model_defaults"] == {
        "image": 40,
        "templates": "identity",
        "background_threshold": 0.55,
    }
    assert (stored["protocol"]["image"], stored["protocol"]["bg"]) == (40, 0.55)
    assert "the model's own defaults: image 40, templates identity" in printed
    _, _, name, stored = made("--bg", 0.3, "--image", 32)
    assert "@identity@[1.0]@32@s=2@bg=0.30" in name
    assert stored["model_defaults"] == {"templates": "identity"}
    assert made("--bg-rule", "none")[3]["model_defaults"].keys() == {"image", "templates"}
    assert made("--protocol", "clearclip")[3]["model_defaults"] == {}
    assert made(script="text")[3]["model_defaults"] == {"image": 40}
