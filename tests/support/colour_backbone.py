"""A backbone whose embeddings are colours, and images made for it."""

import numpy as np
import torch
import torch.nn.functional as F


class ColourBackbone:
    """A stand-in whose embedding is the mean colour of a cell: words are colours.

    The fourth channel is 1 where the image was padded; the word "padding" points there.
    """

    words = {
        "red": (1, 0, 0, 0),
        "green": (0, 1, 0, 0),
        "blue": (0, 0, 1, 0),
        "padding": (0, 0, 0, 1),
    }
    mask_scale, mask_bias, image_size, device, dtype = (
        10.0,
        0.5,
        24,
        torch.device("cpu"),
        torch.float32,
    )

    def __init__(self, patch=8, stride=None):
        self.patch, self.stride, self.calls = patch, stride or patch, {"pixels": 0, "text": 0}

    def notice(self, height, width):
        """It knows images of all shapes."""

    def normalize(self, images):
        return images

    def encode_pixels(self, images):
        self.calls["pixels"] += 1
        down, across = (-side % self.patch for side in images.shape[-2:])
        pads = (across // 2, across - across // 2, down // 2, down - down // 2)
        ones = F.pad(torch.zeros_like(images[:, :1]), pads, value=1.0)
        return F.avg_pool2d(torch.cat([F.pad(images, pads), ones], 1), self.stride)

    def encode_text(self, texts):
        self.calls["text"] += len(texts)
        return torch.tensor([self.words[text] for text in texts], dtype=torch.float32)

    def similarity(self, pixels, text):
        pixels, text = F.normalize(pixels, dim=1, eps=1e-6), F.normalize(text, dim=1)
        return torch.einsum("bdhw,nd->bnhw", pixels, text)

    def soft_mask(self, similarity):
        return torch.sigmoid(self.mask_scale * (similarity - self.mask_bias))


def planted(height, width, y, x, side=4, colour=(255, 0, 0)):
    """Blue image with a square of `colour` whose top left pixel is (y, x)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 255
    image[y : y + side, x : x + side] = colour
    return image
