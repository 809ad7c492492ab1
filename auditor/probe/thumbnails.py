"""Small pictures of image samples for the report."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch

SIDE = 64


def thumbnail(sample: Any) -> str:
    """PNG data URI of a picture-like tensor, array or PIL image; '' for anything else."""
    from PIL import Image

    if isinstance(sample, Image.Image):
        picture = sample.convert("RGB")
    else:
        array = _pixels(sample)
        if array is None:
            return ""
        picture = Image.fromarray(array)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _pixels(sample: Any) -> Any:
    try:
        tensor = torch.as_tensor(sample)
    except (TypeError, ValueError, RuntimeError):
        return None
    if tensor.dim() == 2:
        tensor = tensor.unsqueeze(0)
    if tensor.dim() != 3 or tensor.is_complex():
        return None
    if tensor.shape[0] not in (1, 3, 4) and tensor.shape[-1] in (1, 3, 4):
        tensor = tensor.movedim(-1, 0)
    if tensor.shape[0] not in (1, 3, 4) or min(tensor.shape[1:]) < 4:
        return None
    tensor = tensor[:3].float()
    low, high = tensor.min(), tensor.max()
    tensor = (tensor - low) / (high - low).clamp(min=1e-12) * 255
    array = tensor.round().clamp(0, 255).to(torch.uint8).movedim(0, -1).cpu().numpy()
    return array[..., 0] if array.shape[-1] == 1 else array
