"""Write a model's weights with a TTD adapter merged in; the embeddings stay the same.

A folder, which needs no adapter any more:

    python tools/merge_lora.py --arch tiny --lora weights/tiny+TTD.safetensors --out merged
    python demo.py --arch local-dir:merged

A file:

    python tools/merge_lora.py --arch TCL --lora weights/TCL+TTD.pt --out tcl_ttd.pth
    python demo.py --arch TCL --weights tcl_ttd.pth

A folder (open_clip's config and weights, the tokenizer where it has its own) can be made of tiny,
local-dir: and open_clip's built-in models; a file (.safetensors, .pt, .pth: a state dict) of every
model. What was written is loaded again and compared with the adapted model; a difference above 1e-5
is an error. docs/adapters.md says more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli import ROOT, run

from core.errors import TTDError
from core.utils.files import expanded, resolved

if TYPE_CHECKING:
    from core.backbones.base import Backbone

TOLERANCE = 1e-5  # of embeddings of unit length


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--arch", default="tiny", metavar="NAME", help="the base model (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="weights to load instead of those the name stands for"
    )
    parser.add_argument(
        "--head",
        metavar="HEAD",
        help="the dense head that the adapter was trained with, if it is not the model's default",
    )
    parser.add_argument(
        "--lora",
        required=True,
        metavar="FILE",
        help="adapter: file, PEFT folder or hf-hub:ORG/NAME",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="PATH",
        help="a new folder, or a file that ends in .safetensors, .pt or .pth",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Merge, write, load again, compare."""
    args = get_args_parser().parse_args(argv)
    one_file = args.out.suffix in (".safetensors", ".pt", ".pth")
    check_out(args, one_file)
    from core.backbones import load_backbone
    from core.backbones.lora.merge import largest_difference

    adapted = load_backbone(
        args.arch, weights=args.weights, lora=args.lora, head=args.head, device="cpu"
    )
    write(args, adapted, one_file)
    if one_file:
        merged = load_backbone(args.arch, weights=args.out, head=adapted.head, device="cpu")
        how = f"--arch {args.arch} --weights {args.out}"
    else:
        merged = load_backbone(f"local-dir:{args.out}", device="cpu")
        how = f"--arch local-dir:{args.out}"
    difference = largest_difference(adapted, merged)
    if not difference <= TOLERANCE:
        raise TTDError(
            f"{args.out} was written, but loaded again it differs from the adapted model by "
            f"{difference:.1e}: do not use it" + "; try a folder as --out" * one_file
        )
    print(
        f"{args.out}: loads with {how}; largest difference from the adapted model {difference:.1e}"
    )
    return 0


def write(args: argparse.Namespace, adapted: Backbone, one_file: bool) -> None:
    """Merge the adapter into the model's own tensors and write them to --out."""
    from core.backbones.lora.merge import merge, read_source, write_file, write_folder

    source = read_source(args.arch, args.weights)
    state = merge(adapted, source)
    if one_file:
        write_file(state, args.out)
    else:
        write_folder(state, args.out, source, adapted.head)


def check_out(args: argparse.Namespace, one_file: bool) -> None:
    """TTDError when --out is what is read, or exists as something else than will be written."""
    read = [args.weights, args.lora, args.arch.removeprefix("local-dir:")]
    if args.arch == "tiny":
        read.append(ROOT / "weights" / "tiny")
    target = resolved(expanded(args.out))
    if any(path and resolved(expanded(path)) == target for path in read):
        raise TTDError(f"--out {args.out} is what is merged: name another place")
    if args.out.exists() and args.out.is_dir() == one_file:
        kind = "folder" if one_file else "file"
        raise TTDError(
            f"--out {args.out} is a {kind}: name a new folder, or a file that ends in "
            ".safetensors, .pt or .pth"
        )


if __name__ == "__main__":
    run(main)
