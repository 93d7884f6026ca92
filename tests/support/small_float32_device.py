"""Tensors on a device that has no float64, as Apple's GPU, for machines without one.

with without_float64():
    scores = There(torch.rand(3))          # scores.device is `NAME`; computed on the CPU
    scores.double()                        # TypeError, as on Apple's GPU

torch's `meta` lends its name: it is the one device that every build of torch knows.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

NAME = "meta"


class There(torch.Tensor):
    """A tensor `inner` of the CPU under the other device's name."""

    @staticmethod
    def __new__(cls, inner):
        if inner.dtype == torch.float64:
            raise TypeError("Cannot convert a Tensor of this device to float64 dtype")
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=NAME)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


class without_float64(TorchDispatchMode):
    """Operations and moves know the device while this is open."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


def _computed(func, args, kwargs):
    """An operation on the CPU; its results are on the asked device, or on that of its inputs."""
    seen = []

    def inner(tensor):
        seen.append(tensor)
        return tensor.inner

    args, kwargs = tree_map_only(There, inner, (args, kwargs))
    place = kwargs.get("device")
    if place is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*args, **kwargs)
    there = bool(seen) if place is None else torch.device(place).type == NAME
    return tree_map_only(torch.Tensor, There, result) if there else result
