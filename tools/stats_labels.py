"""What a labelled set holds: tags per caption, rejected words, areas, top words, what was skipped.

    python tools/stats_labels.py labels                        # a text
    python tools/stats_labels.py labels --out stats.png        # and a picture

The set is what label_shards.py wrote, a folder or a URL.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli import positive_int, run

from core.errors import TTDError

if TYPE_CHECKING:
    from core.labelling.stats import Stats
    from core.plots.charts.histograms import Histogram

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", metavar="PLACE", help="the folder or URL of a labelled set")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a picture: .png, .jpg, .webp")
    parser.add_argument(
        "--top", type=positive_int, default=20, metavar="N", help="words shown (20)"
    )
    parser.add_argument("--limit", type=positive_int, metavar="N", help="only the first N shards")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Count, print, draw."""
    args = get_args_parser().parse_args(argv)
    if args.out and args.out.suffix.lower() not in PICTURES:
        raise TTDError(f"{args.out}: wanted a name that ends in {', '.join(PICTURES)}")
    from core.labelling.rows import open_labels
    from core.labelling.stats import stats_of

    labels = open_labels(args.labels)
    stats = stats_of(labels, labels.shards[: args.limit])
    for line in lines_of(stats, args.top):
        print(line)
    if args.out:
        save(stats, args.out)
        print(args.out)
    return 0


def lines_of(stats: Stats, top: int) -> list[str]:
    """The numbers in words."""
    skipped = stats.skipped.total()
    lines = [
        f"{stats.shards} shards, {stats.failed} failed; {stats.pairs} pairs, {skipped} skipped",
        f"{stats.words} words, {stats.selected} selected: {100 * stats.rejection:.1f} % rejected, "
        f"{stats.mean_tags:.2f} tags a caption, {stats.tags_per_caption[0]} captions without any",
    ]
    if stats.others:
        lines.append(f"{stats.others} shards of other settings are not counted")
    if stats.caption_shares.any():
        captions = mean(stats.caption_sum, stats.caption_shares)
        tags = mean(stats.tag_sum, stats.tag_shares)
        lines.append(
            f"captions' masks: {captions} of the image on average, {stats.empty_captions} are "
            f"empty; tags': {tags}, {stats.empty_tags} of {stats.tag_shares.sum()} are empty"
        )
    if stats.boxes:
        share = mean(stats.box_sum, stats.box_shares)
        lines.append(f"{stats.boxes} boxes, {share} of the image on average")
    lines += [f"{name}: {shown(words, top)}" for name, words in _words(stats) if words]
    lines += [f"skipped {count}: {reason}" for reason, count in stats.skipped.most_common(top)]
    return lines


def _words(stats: Stats) -> list[tuple[str, Counter[str]]]:
    return [("top tags", stats.chosen), ("top rejected words", stats.rejected)]


def shown(words: Counter[str], top: int) -> str:
    """The commonest words with their counts; of equals, in the order of letters."""
    ranked = sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{word} {count}" for word, count in ranked[:top])


def mean(total: float, counts: Sequence[int]) -> str:
    """The mean of shares with that sum, counted in bins, in per cent."""
    return f"{100 * total / max(sum(counts), 1):.0f} %"


def panels(stats: Stats) -> list[Histogram]:
    """What the picture shows."""
    from core.labelling.stats import BINS, MOST_TAGS
    from core.plots.charts.histograms import Histogram

    tags = [str(k) for k in range(MOST_TAGS)] + [f"{MOST_TAGS}+"]
    shares = [f"{k / BINS:.2f}".rstrip("0").rstrip(".") for k in range(BINS)]
    scores = [("selected", stats.selected_norms), ("rejected", stats.rejected_norms)]
    found = [
        Histogram("tags in a caption", tags, [("", stats.tags_per_caption)]),
        Histogram("normalized scores of words", shares, scores),
    ]
    if stats.caption_shares.any():
        areas = [("caption", stats.caption_shares), ("a tag", stats.tag_shares)]
        found.append(Histogram("masks, share of the image", shares, areas))
    if stats.boxes:
        found.append(Histogram("boxes, share of the image", shares, [("", stats.box_shares)]))
    return [
        Histogram(one.title, one.names, [(name, list(map(int, bars))) for name, bars in one.series])
        for one in found
    ]


def save(stats: Stats, path: Path) -> None:
    """Draw the picture. TTDError: it cannot be written."""
    from core.plots.charts.histograms import draw_histograms
    from core.utils.files import write_bytes, write_errors

    data = io.BytesIO()
    kind = {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG")
    draw_histograms(panels(stats)).save(data, kind)
    with write_errors(path, "choose another --out"):
        write_bytes(path, data.getvalue())


if __name__ == "__main__":
    run(main)
