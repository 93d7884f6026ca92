"""Training a small CLIP from scratch with InfoNCE on the procedural world; deterministic and resumable.

Every random draw of a step comes from (seed, step), so a run that was cut off goes on exactly as it
would have.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..backbones.device import use_threads
from ..data.words import split_words
from ..errors import TTDError
from ..utils.provenance import seed_everything
from .data import batch_indices, load_pairs, random_crops, random_spans, shrink
from .model import MEAN, STD, build, model_config, save, write_vocabulary

Log = Callable[[dict], None]
# Settings that a resumed run may change. Another number of threads rounds differently in the last
# bits.
FREE = {"steps": 0, "threads": 0, "checkpoint_minutes": 0.0, "log_every": 0}


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that shapes the tiny model; one YAML key each (configs/tiny_clip.yaml explains them)."""

    world: str
    out: str
    head: str
    seed: int
    threads: int
    embed_dim: int
    patch: int
    width: int
    layers: int
    text_width: int
    text_layers: int
    context: int
    merges: int
    batch: int
    steps: int
    lr: float
    muon_lr: float
    warmup: int
    weight_decay: float
    max_logit_scale: float
    small: int
    decay_steps: int
    plain_steps: int
    span_share: float
    crop: float
    bf16: bool
    device: str
    checkpoint_minutes: float
    log_every: int


def load_config(values: dict, source: str) -> PretrainConfig:
    """A `PretrainConfig` from a YAML mapping. TTDError for unknown, missing or wrongly typed keys."""
    known = {f.name: f.type for f in fields(PretrainConfig)}
    unknown, missing = sorted(set(values) - set(known)), sorted(set(known) - set(values))
    if unknown or missing:
        raise TTDError(
            f"{source}: unknown keys {unknown or 'none'}, missing keys {missing or 'none'}"
        )
    checked = {}
    for name, value in values.items():
        kind = known[name]
        checked[name] = float(value) if kind is float and type(value) is int else value
        if type(checked[name]) is not kind:
            raise TTDError(f"{source}: {name} must be {kind.__name__}, not {value!r}")
    return PretrainConfig(**checked)


def schedule(step: int, config: PretrainConfig) -> float:
    """Share of the peak learning rates: linear warm-up, constant, and linear to 0 over the last `decay_steps`.

    The constant part does not know how long the run will be: `steps` may be changed before the
    decay begins.
    """
    left = (config.steps - step) / max(1, config.decay_steps)
    return min(1.0, (step + 1) / max(1, config.warmup), left)


def _optimizers(model: nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest; gains, biases and the temperature are not decayed.

    Muon (steps along the orthogonalised momentum) needs about 2.5 times fewer steps here than AdamW
    alone.
    """
    if not hasattr(torch.optim, "Muon"):
        raise TTDError(
            f"training the tiny model needs torch >= 2.9 (its optimizer Muon), this is {torch.__version__}"
        )
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and ".resblocks." in name]
    others = [p for p in model.parameters() if all(p is not h for h in hidden)]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(hidden, lr=config.muon_lr, weight_decay=config.weight_decay / 10),
        torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), eps=1e-6),
    ]


def info_nce(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of L2-normalized [B,D] pairs: mean of both cross-entropies of `scale * images @ texts.T`."""
    logits = scale * images @ texts.T  # (B, B)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class Pretrainer:
    """One training run: `run()` goes from the last checkpoint in `config.out` (if any) to the last step."""

    def __init__(self, config: PretrainConfig, log: Log = lambda record: None):
        import open_clip

        self.config, self.log, self.out = config, log, Path(config.out)
        use_threads(config.threads)
        self.images, texts = load_pairs(Path(config.world))
        words = {w.text.casefold() for text in texts for w in split_words(text)}
        vocab = write_vocabulary(self.out / "bpe.txt.gz", words, config.merges)
        tokenizer = open_clip.SimpleTokenizer(
            bpe_path=str(self.out / "bpe.txt.gz"), context_length=config.context
        )
        self.texts, self.tokenizer = texts, tokenizer
        self.architecture = model_config(self.images.shape[-1], vocab, _shape(config))
        seed_everything(config.seed)
        self.model = build(self.architecture).to(config.device).train()
        self.optimizers = _optimizers(self.model, config)
        self.peaks = [
            [group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers
        ]
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        self.step = 0
        self._resume()

    def run(self, progress: Callable[[int], None] = lambda step: None) -> nn.Module:
        """Train to the last step, logging and saving on the way; `progress` is called after every step. Returns the model."""
        saved = logged = time.monotonic()
        since = self.step
        while self.step < self.config.steps:
            record = self._train_step()
            self.step += 1
            progress(self.step)
            now = time.monotonic()
            if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                rate = (self.step - since) * self.config.batch / (now - logged)
                self.log(
                    {
                        "step": self.step,
                        **{k: float(v) for k, v in record.items()},
                        "samples_per_s": round(rate, 1),
                    }
                )
                logged, since = now, self.step
            if now - saved > 60 * self.config.checkpoint_minutes or self.step == self.config.steps:
                self._checkpoint()
                saved = now
        save(self.model, self.architecture, self.out, {"head": self.config.head})
        return self.model

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Normalized crops [B,3,S,S] and tokens [B,L] of this step, on the device."""
        config = self.config
        index = batch_indices(len(self.images), config.batch, self.step, config.seed)
        generator = torch.Generator().manual_seed(config.seed * 1000003 + self.step)
        images = random_crops(self.images[index].float() / 255, config.crop, generator)
        texts = random_spans([self.texts[i] for i in index.tolist()], config.span_share, generator)
        images, keep = (images - self.mean) / self.std, None
        if config.small and self.step < config.steps - config.plain_steps:
            images, keep = shrink(images, config.small, config.patch, generator)
        self.model.visual.patch_dropout.index = keep
        return images.to(config.device), self.tokenizer(texts).to(config.device)

    def _train_step(self) -> dict[str, Tensor | float]:
        config, model = self.config, self.model
        share = schedule(self.step, config)
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = share * peak
        images, tokens = self._batch()
        # The plain attention is 1.3 times faster than the CPU's fused kernel at these lengths.
        with _autocast(config), sdpa_kernel(SDPBackend.MATH):
            image = model.encode_image(images, normalize=True).float()
            text = model.encode_text(tokens, normalize=True).float()
            loss = info_nce(image, text, model.logit_scale.exp())
            model.zero_grad(set_to_none=True)
            loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(config.max_logit_scale))
            scale = model.logit_scale.exp()
        return {
            "loss": loss.detach(),
            "lr": share * config.lr,
            "logit_scale": scale,
            "grad_norm": norm,
        }

    def _checkpoint(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "step": self.step,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        part = self.out / "checkpoint.pt.part"
        torch.save({**state, "config": json.dumps(asdict(self.config))}, part)
        part.replace(self.out / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.config.device, weights_only=True)
        if json.loads(state["config"]) | FREE != asdict(self.config) | FREE:
            raise TTDError(
                f"{path} belongs to a run with other settings: choose another `out`, or remove it"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.step = state["step"]


def _shape(config: PretrainConfig) -> dict[str, int]:
    names = ("embed_dim", "patch", "width", "layers", "text_width", "text_layers", "context")
    return {name: getattr(config, name) for name in names}


def _autocast(config: PretrainConfig) -> contextlib.AbstractContextManager:
    return (
        torch.autocast(config.device, torch.bfloat16) if config.bf16 else contextlib.nullcontext()
    )
