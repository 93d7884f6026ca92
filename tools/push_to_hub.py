"""Publish an adapter, a TCL or a grounder on the Hugging Face Hub, with a card of its scores.

    python tools/push_to_hub.py weights/tiny+TTD.safetensors --to ORG/NAME --licence mit \\
        --scores scores.json
    python tools/push_to_hub.py weights/tiny-TCL.pth --to ORG/NAME --dry-run out/repository
    python tools/push_to_hub.py runs/grounding_tiny/best.safetensors --to ORG/NAME

Then `--lora`, `--weights` (TCL) and `--grounder` take hf-hub:ORG/NAME, or hf-hub:ORG/NAME@COMMIT
for these very bytes. Only safetensors are published: a TCL checkpoint is rewritten, loaded again
and compared. The card's numbers are those of --scores, files that the evaluators wrote with --json;
without them the card says that nothing was measured. Needs a token that may write: `hf auth login`,
or HF_TOKEN.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli import run
from model_card import Card, card_text, read_scores, word

from core.errors import TTDError
from core.utils.files import expanded, resolved, section, write_errors, write_text

DEMO = "python demo.py"


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", metavar="FILE", help="an adapter (also a PEFT folder), a TCL, or a grounder")
    add("--to", required=True, metavar="ORG/NAME", help="the repository, made if it is not there")
    add("--scores", type=Path, nargs="+", default=[], metavar="FILE", help="what evaluators wrote "
        "with --json, for the card")  # fmt: skip
    add("--licence", "--license", metavar="ID", help="of the model, as the Hub calls it: mit, ...")
    add("--private", action="store_true", help="only you see it, if the repository is new")
    add("--revision", metavar="BRANCH", help="another branch than main")
    add("--dry-run", type=Path, metavar="FOLDER", help="send nothing; make it in a folder")
    return parser


def main(argv: Sequence[str] | None = None, api: Any = None) -> int:
    """Make the files and the card, send them, print the name with the commit.

    api: the Hub's client, None: huggingface_hub's own.
    """
    args = get_args_parser().parse_args(argv)
    from core.backbones.hub_files import PREFIX, hub_name

    name = hub_name(PREFIX + args.to.removeprefix(PREFIX)).repo
    scores = read_scores(args.scores)
    if args.licence:
        word(args.licence)
    if args.dry_run:
        if args.dry_run.exists() and any(args.dry_run.iterdir()):
            raise TTDError(f"--dry-run {args.dry_run}: not empty; name a new folder")
        make(args.model, args.dry_run, name, args.licence, scores)
        print(f"{args.dry_run}: {', '.join(sorted(path.name for path in args.dry_run.iterdir()))}")
        return 0
    client = api or client_with_token()
    with tempfile.TemporaryDirectory() as folder:
        make(args.model, Path(folder), name, args.licence, scores)
        commit = send(client, Path(folder), name, args.private, args.revision)
    print(f"{PREFIX}{name}@{commit}")
    return 0


def make(
    model: str, folder: Path, name: str, licence: str | None, scores: Mapping[str, Any]
) -> None:
    """Everything that is sent, in a folder. TTDError: a file that is none of the three kinds."""
    with write_errors(folder, "choose another place"):
        folder.mkdir(parents=True, exist_ok=True)
    kind = kind_of(model)
    for where, content in scores.items():
        check_made_with(kind, model, content, where)
    card = MAKERS[kind](model, folder, name, licence)
    write_text(folder / "README.md", card_text(card, scores))


def check_made_with(kind: str, model: str, scores: Any, where: str) -> None:
    """TTDError for scores that say that they were made with another file than this one."""
    results = scores.get("results", [scores]) if isinstance(scores, dict) else []
    for one in results:
        protocol = one.get("protocol") if isinstance(one, dict) else None
        given = section(protocol if isinstance(protocol, dict) else None, "arguments")
        key = {"adapter": "lora", "TCL": "weights"}.get(kind)
        if key is None or key not in given:
            continue
        used = given[key]
        if used is None:
            raise TTDError(f"--scores {where}: made without --{key}, so not with {model}")
        path, mine = expanded(str(used)), expanded(model)
        if path.is_file() and mine.is_file() and path.read_bytes() != mine.read_bytes():
            raise TTDError(
                f"--scores {where}: made with {used}, which is another file than {model}"
            )


def kind_of(model: str) -> str:
    """ "adapter", "grounder" or "TCL", by the content. TTDError for anything else."""
    from core.backbones.weights import read_checkpoint
    from core.grounding.weights.checkpoint import FORMAT

    path = resolved(expanded(model))
    if path.is_dir():
        return "adapter"
    if FORMAT in metadata(path):
        return "grounder"
    content = read_checkpoint(path)
    inner = content.get("model", content)
    names = [str(key) for key in (inner if isinstance(inner, dict) else content)]
    if names and all(".lora_" in key for key in names):
        return "adapter"
    if any(key.startswith("masker.") for key in names):
        return "TCL"
    raise TTDError(
        f"{model}: neither an adapter, nor a TCL, nor a grounder of train_grounding.py; these are "
        "what is published here"
    )


def metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file; {} of any other. TTDError: no such file, or damaged."""
    from safetensors import safe_open

    from core.backbones.weights import existing_file, reading
    from core.utils.tensors.file_kinds import file_kind

    path = existing_file(path)
    if file_kind(path) != "safetensors":
        return {}
    with reading(path), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def adapter(model: str, folder: Path, name: str, licence: str | None) -> Card:
    """A PEFT folder, which says of itself what the file did."""
    from dataclasses import asdict

    from core.backbones.lora.files import WEIGHTS, read_adapter, write_peft_folder

    state, info = read_adapter(model)
    if info.alpha is None or info.rank is None:
        raise TTDError(
            f"{model} does not say its alpha and rank, without which others would use it wrongly; "
            "publish the .safetensors that train_ttd.py wrote"
        )
    write_peft_folder(state, folder, info)
    base = info.arch or "its base model"
    use = [f'{DEMO} --arch "{shell_word(info.arch or "ARCH")}" --lora hf-hub:{name}']
    about = (
        "A LoRA adapter of TTD (Text-Tag Self-Distillation, ECCV 2024, arXiv 2404.00384) for "
        f"`{shell_word(base)}`: with it a caption lights up everything that it names."
    )
    files = listed(folder, [WEIGHTS[0], "adapter_config.json"])
    return Card(name, "adapter", about, use, asdict(info), files, licence, ["lora", "ttd"])


def tcl(model: str, folder: Path, name: str, licence: str | None) -> Card:
    """One safetensors file in the released names."""
    from core.backbones.tcl.loading import HUB_FILE
    from core.tcl.hub import to_safetensors

    backbone = to_safetensors(model, folder / HUB_FILE)
    facts = {
        "checksum": backbone.checksum,
        "image size": backbone.image_size,
        "mask scale": backbone.mask_scale,
        "mask bias": backbone.mask_bias,
    }
    use = [f"{DEMO} --arch TCL --weights hf-hub:{name}"]
    about = (
        "A TCL (text-grounded contrastive learning, CVPR 2023): a masker on a frozen"
        " CLIP, in the names of the released checkpoint."
    )
    return Card(name, "TCL", about, use, facts, listed(folder, [HUB_FILE]), licence, ["tcl"])


def grounder(model: str, folder: Path, name: str, licence: str | None) -> Card:
    """The file of train_grounding.py as it is."""
    from core.grounding.weights.checkpoint import HUB_FILE, load_model, read_info

    path = expanded(model)
    load_model(path, device="cpu")  # it must load before others are told that it does
    with write_errors(folder, "choose another place"):
        (folder / HUB_FILE).write_bytes(path.read_bytes())
    said = read_info(path)
    use = [f'{DEMO} --input photo.jpg --ground "the red house" --grounder hf-hub:{name}']
    about = (
        "A visual grounding model of CLIP-VG's kind (TMM 2023, arXiv 2305.08685): a phrase in, a "
        f"box out. The towers of `{shell_word(str(said['arch']))}` are not in the file."
    )
    files = listed(folder, [HUB_FILE])
    return Card(name, "grounder", about, use, said, files, licence, ["visual-grounding"])


MAKERS = {"adapter": adapter, "TCL": tcl, "grounder": grounder}


def shell_word(text: str) -> str:
    """A model's name where it is harmless in a command and in Markdown, else ARCH."""
    plain = text.replace("-", "").replace("_", "").replace(":", "").replace("/", "")
    if text.startswith("local-dir:") or not plain.replace(".", "").isalnum() or not text.isascii():
        return "ARCH"
    return text


def listed(folder: Path, names: Sequence[str]) -> list[tuple[str, int, str]]:
    """(name, bytes, SHA-256) of files."""
    from core.data.download.sums import measure

    found = ((name, measure(folder / name, {})) for name in names)
    return [(name, one.size, one.sha256) for name, one in found]


def client_with_token() -> Any:
    """huggingface_hub's client. TTDError where there is no token; nothing was made or sent."""
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise TTDError("no token of the Hugging Face Hub: `hf auth login`, or set HF_TOKEN")
    return HfApi()


def send(client: Any, folder: Path, name: str, private: bool, revision: str | None) -> str:
    """Make the repository where it is not there, and one commit of all files; its number."""
    from core.backbones.weights import quiet, shorten

    try:
        with quiet():
            client.create_repo(name, private=private, exist_ok=True)
            if revision:
                client.create_branch(name, branch=revision, exist_ok=True)
            done = client.upload_folder(
                repo_id=name, folder_path=folder, revision=revision, commit_message="Model and card"
            )
    except Exception as error:
        raise TTDError(
            f"{name}: could not be sent ({shorten(error)}); check the token's rights, the name and "
            "the network, and run the same command again"
        ) from None
    return str(done.oid)


if __name__ == "__main__":
    run(main)
