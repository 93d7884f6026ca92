"""Writes the files of a small tokenizer of Hugging Face's, as a model's folder has them."""

import json
from pathlib import Path

WORDS = ("▁a", "▁dog", "▁cat", "▁", *"acdgot")
END, PAD = 1, 0


def write_tokenizer(folder: Path, end: bool = True, config: dict | None = None) -> Path:
    """Lower-cased words and letters, ids from 4 in the order of `WORDS`; `<eos>` (1) at the end.

    Padding is 0, unknown letters are 3. end: without it no end token is added. config: of
    tokenizer_config.json.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ("<pad>", "<eos>", "<bos>", "<unk>")
    scores = [(token, 0.0) for token in special]
    scores += [(word, -1.0 - place) for place, word in enumerate(WORDS)]
    made = Tokenizer(models.Unigram(scores, 3, False))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    if end:
        made.post_processor = processors.TemplateProcessing(
            single="$A <eos>", special_tokens=[("<eos>", END)]
        )
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    usual = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
    text = json.dumps({**usual, "eos_token": "<eos>"} if config is None else config)
    (folder / "tokenizer_config.json").write_text(text)
    return folder
