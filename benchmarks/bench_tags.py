"""How fast words are scored, against the literal way: one caption, one word, one full prompt at a time.

    python benchmarks/bench_tags.py                                   # ViT-B/16 with random weights, and tiny
    python benchmarks/bench_tags.py --model tiny --captions 64
    python benchmarks/bench_tags.py --model ViT-B-16 --dtype bfloat16 --threads 2

Both score the same words with the three scorers in the same process: same weights, dtype, threads and pictures (of the
procedural world, in memory: reading is not timed). The answers are compared, then times are taken in turns.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from cli import positive_int, run  # noqa: E402


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["ViT-B-16", "tiny"], metavar="NAME",
                        help="open_clip's names (random weights), tiny, local-dir:FOLDER (default: ViT-B-16 and tiny)")
    parser.add_argument("--captions", type=positive_int, default=32, help="captions to score (default: 32)")
    parser.add_argument("--per-picture", type=positive_int, nargs="+", default=[1, 5], metavar="N",
                        help="captions of each picture: 1 as in CC3M, 5 as in COCO (default: both)")
    parser.add_argument("--batch", type=positive_int, default=32, help="of the batched path (default: 32)")
    parser.add_argument("--rounds", type=positive_int, default=3, help="medians over so many rounds (default: 3)")
    parser.add_argument("--threads", type=positive_int, help="of torch (default: torch's own choice)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    args = get_args_parser().parse_args(argv)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else _processor()
    print(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}, {args.dtype}, "
          f"{args.captions} captions, batch {args.batch}, scale 1, no flip, median of {args.rounds}")
    print(f"{'model':12}{'px':>5}{'captions':>10}  {'path':8}{'ms/caption':>11}{'pictures/s':>12}{'words/s':>9}"
          f"{'ratio':>8}  stages, ms/caption; difference")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.model:
            for per_picture in args.per_picture:
                bench(name, per_picture, args, Path(folder))
    return 0


def bench(name: str, per_picture: int, args: argparse.Namespace, folder: Path) -> None:
    """Compare and time both paths for one model; print its two rows."""
    from core.backbones import load_backbone
    from core.errors import TTDError
    from core.scoring import SCORERS
    from core.world.sample import make_sample

    arch = name if name == "tiny" or ":" in name else random_model(name, folder / name)
    backbone = load_backbone(arch, device=args.device, dtype=args.dtype)
    samples = [make_sample(0, "val", i, backbone.image_size) for i in range(args.captions)]
    captions = [sample.text for sample in samples]
    images = [samples[i // per_picture].image for i in range(args.captions)]
    fast, slow = batched(backbone, images, captions, args.batch), literal(backbone, images, captions)
    difference = max(float((a[scorer] - b[scorer]).abs().max()) for a, b in zip(fast, slow, strict=True)
                     for scorer in SCORERS)
    if difference > (1e-4 if args.dtype == "float32" else 0.03):
        raise TTDError(f"{name}: the two paths differ by {difference:.2g}")
    times = {path: [] for path in (batched, literal)}
    for _ in range(args.rounds):
        times[batched].append(timed(lambda: batched(backbone, images, captions, args.batch)))
        times[literal].append(timed(lambda: literal(backbone, images, captions)))
    words, base = sum(len(row["pixel"]) for row in fast), median(times[literal])
    for path, took in times.items():
        seconds = median(took)
        more = f"{stage_times(backbone, images, captions, args, seconds)}; {difference:.0e}" if path is batched else ""
        print(f"{name[-11:]:12}{backbone.image_size:5}{per_picture:10}  {path.__name__:8}"
              f"{1000 * seconds / len(images):11.2f}{len(images) / per_picture / seconds:12.1f}{words / seconds:9.0f}"
              f"{base / seconds:7.2f}x  {more}")


def batched(backbone, images: Sequence, captions: Sequence[str], batch: int) -> list[dict]:
    """Our path: raw scores [K] by scorer for every caption."""
    from core.scoring import score_batch

    return [one.scores for start in range(0, len(images), batch)
            for one in score_batch(backbone, images[start : start + batch], captions[start : start + batch])]


def literal(backbone, images: Sequence, captions: Sequence[str]) -> list[dict]:
    """The definition, written down: every picture and every word by itself, every prompt at the model's full length."""
    import torch
    import torch.nn.functional as F

    from core.words import split_words

    results = []
    with torch.no_grad():
        for image, caption in zip(images, captions, strict=True):
            pixels = backbone.normalize(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
            dense = F.normalize(backbone.encode_pixels(pixels)[0].float(), dim=0)  # (D, h, w)
            pooled = F.normalize(backbone.encode_image(pixels)[0].float(), dim=0)
            whole = full_prompt(backbone, caption)
            rows = []
            for word in split_words(caption):
                text = full_prompt(backbone, word.text)
                rows.append((torch.einsum("dhw,d->hw", dense, text).max(), pooled @ text, whole @ text))
            pixel, image_, text_ = (torch.stack(column).cpu() for column in zip(*rows, strict=True))
            results.append({"pixel": pixel, "image": image_, "text": text_})
    return results


def full_prompt(backbone, text: str):
    """Unit embedding [D] of one text; all positions of the context go through the tower, padding included."""
    import torch.nn.functional as F

    tower, tokens = backbone.text, backbone.tokenize([text])
    x = tower.token_embedding(tokens) + tower.positional_embedding
    for block in tower.blocks:
        x = block(x, None, causal=tower.causal)
    x = x[:, int(tower.end_positions(tokens))]
    return F.normalize(tower.projection(tower.ln_final(x))[0].float(), dim=0)


def stage_times(backbone, images: Sequence, captions: Sequence[str], args: argparse.Namespace, total: float) -> str:
    """Times of resizing, texts and towers alone; the rest is maps and bookkeeping."""
    import torch

    from core.scoring import encode_texts, prepare
    from core.similarity_maps import encode_views
    from core.words import split_words

    starts = range(0, len(images), args.batch)
    groups = [slice(start, start + args.batch) for start in starts]
    words = [list(dict.fromkeys(w.text for text in captions[g] for w in split_words(text))) for g in groups]
    each = [list({id(image): image for image in images[g]}.values()) for g in groups]  # every picture once
    pictures = [torch.stack([prepare(image, backbone.image_size).scaled[0] for image in part]) for part in each]
    with torch.no_grad():
        stages = {"resize": timed(lambda: [prepare(image, backbone.image_size) for part in each for image in part]),
                  "texts": timed(lambda: [encode_texts(backbone, w) for w in words] +
                                 [encode_texts(backbone, captions[g]) for g in groups]),
                  "towers": timed(lambda: [encode_views(backbone, batch, False, True) for batch in pictures])}
    stages["rest"] = max(0.0, total - sum(stages.values()))
    return ", ".join(f"{name} {1000 * value / len(images):.2f}" for name, value in stages.items())


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes, the GPU's part included."""
    import torch

    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def random_model(name: str, folder: Path) -> str:
    """An open_clip model with random weights (seed 0) as a folder; returns its arch."""
    import open_clip
    import torch
    from safetensors.torch import save_model

    torch.manual_seed(0)
    model = open_clip.create_model(name)
    folder.mkdir(exist_ok=True)
    save_model(model, str(folder / "open_clip_model.safetensors"))
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": model.visual.preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def _processor() -> str:
    """The processor's name where the system tells."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    run(main)
