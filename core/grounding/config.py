"""What a grounding model is made of: the numbers that a checkpoint's tensors cannot all tell."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import TTDError


@dataclass(frozen=True)
class ModelConfig:
    """Size of the part behind the two towers.

    blocks: image blocks whose outputs are concatenated, from 0, ascending; hidden: width D of the
    encoder; image_size: side of the square canvas in pixels; context: text tokens;
    feedforward, heads, layers, dropout: of the encoder. Defaults are CLIP-VG's.

    Two fields are ours, for towers that are not OpenAI's. whiten: channels to which block outputs
    and text states are reduced by frozen whitening maps before their projections, 0 for none; a
    tower whose outputs have a deviation of 60, most of it in ten directions, saturates the first
    attention and hides the rest otherwise. input_positions: whether the position table is also
    added to the tokens themselves, once. CLIP-VG adds it to queries and keys alone, so that where
    an attended patch lies must be in the tower's own features.
    Errors: TTDError for what no encoder can have.
    """

    blocks: tuple[int, ...]
    hidden: int
    image_size: int
    context: int = 77
    heads: int = 8
    layers: int = 6
    feedforward: int = 2048
    dropout: float = 0.1
    whiten: int = 0
    input_positions: bool = False

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise TTDError(f"hidden {self.hidden}: must be a multiple of the {self.heads} heads")
        if tuple(sorted(set(self.blocks))) != self.blocks or not self.blocks or self.blocks[0] < 0:
            raise TTDError(f"blocks {list(self.blocks)}: must be different numbers, ascending")
        if min(self.layers, self.feedforward, self.image_size, self.context) < 1:
            raise TTDError("layers, feedforward, image_size and context must be at least 1")
        if not 0 <= self.dropout < 1:
            raise TTDError(f"dropout {self.dropout:g}: must be in [0, 1)")
        if self.whiten < 0:
            raise TTDError(f"whiten {self.whiten}: must be 0 or more channels")


def default_blocks(depth: int, count: int | None = None) -> tuple[int, ...]:
    """The blocks that CLIP-VG reads of an image tower of `depth` blocks: first, thirds, last.

    12 blocks: 0, 3, 7, 11; 24 blocks: 0, 7, 15, 23. Shallower towers give fewer.
    count: how many there must be; where that rule gives another number they are spread evenly.
    """
    thirds = (0, depth // 3 - 1, 2 * depth // 3 - 1, depth - 1)
    blocks = tuple(sorted({block for block in thirds if block >= 0}))
    if count is None or count == len(blocks):
        return blocks
    if not 1 <= count <= depth:
        raise TTDError(f"{count} levels of an image tower of {depth} blocks: choose 1 to {depth}")
    if count == 1:
        return (depth - 1,)
    return tuple(round(i * (depth - 1) / (count - 1)) for i in range(count))
