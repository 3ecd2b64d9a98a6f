"""In how many bits a model computes, and how everything between the models stays in 32."""

from __future__ import annotations

from typing import Any

import torch

_QUICK = ("amx_bf16", "avx512_bf16")
"""What a CPU has that multiplies in bfloat16 faster than in float32."""


def half_type(device: str) -> torch.dtype:
    """Return the type of 16 bits that is faster than float32 on a device, or float32 where there is none.

    Args:
        device: As torch names it.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.float16
    able = torch.cpu.get_capabilities() if kind == "cpu" else {}
    return torch.bfloat16 if any(able.get(name) for name in _QUICK) else torch.float32


def ready(model: torch.nn.Module) -> torch.nn.Module:
    """Make a model quick, in place: channels last; one of 16 bits takes and gives 32.

    So the latents between two steps are never rounded to 16 bits, which would cost more than all the rounding inside:
    the steps of a scheduler add up, and a model's errors do not.
    """
    model.to(memory_format=torch.channels_last)
    own = next(model.parameters()).dtype
    if own is not torch.float32:
        model.register_forward_pre_hook(lambda _, args, named: (_cast(args, own), _cast(named, own)), with_kwargs=True)
        model.register_forward_hook(lambda _, __, output: _cast(output, torch.float32))
    return model


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Return the same with its tensors in another type; numbers, such as those of steps, stay as they are."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() and value.ndim > 1 else value
    if isinstance(value, tuple | list):
        return type(value)(_cast(part, dtype) for part in value)
    if isinstance(value, dict):
        return type(value)(**{name: _cast(part, dtype) for name, part in value.items()})
    return value
