"""How far apart two pictures look to a network, LPIPS; the weights are a file that the person names.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", version 0.1 on AlexNet. The
weights are published as two files: torchvision's ``alexnet-owt-7be5be79.pth`` (BSD-3-Clause), and ``alex.pth``
(BSD-2-Clause) of the folder lpips/weights/v0.1 of the authors' repository PerceptualSimilarity, which torchmetrics
installs in its folder functional/image/lpips_models too. Both are pickles, and no pickle is opened here, so they have
to be converted once, where they are trusted::

    python -c "import torch; from safetensors.torch import save_file; save_file({k: v
    for file in ('alexnet-owt-7be5be79.pth', 'alex.pth')
    for k, v in torch.load(file, map_location='cpu', weights_only=True).items()
    if not k.startswith('classifier')}, 'lpips.safetensors')"
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torchmetrics.functional.image.lpips import _LPIPS  # what is public around it fetches its weights by itself

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called, opened, printable


class Perceptual:
    """The network, ready to be asked.

    Attributes:
        name: Of the file, and a hash of it.
    """

    def __init__(self, file: Path) -> None:
        """Read the weights.

        Args:
            file: The safetensors file that the module's first lines tell how to make.

        Raises:
            UserError: It is not that file.
        """
        with opened(file, called(file)) as stream:
            data = stream.read()
        net = _LPIPS(pretrained=False, net="alex", pnet_rand=True)
        try:
            tensors = load(data)
            net.load_state_dict({name: tensors[_published(name)] for name in net.state_dict()})
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise UserError(
                f"{called(file)} holds no LPIPS weights as safetensors: convert alexnet-owt-7be5be79.pth and alex.pth, "
                "as mmmrs_demo/evaluation/perceptual.py tells."
            ) from error
        self.name = f"{printable(file.name)} sha256:{hashlib.sha256(data).hexdigest()[:16]}"
        self._net = net.to("cuda" if torch.cuda.is_available() else "cpu")

    @torch.inference_mode()
    def distance(self, made: np.ndarray, real: np.ndarray) -> float:
        """Return the LPIPS distance of two pictures, 0 where they are equal; less is nearer.

        Args:
            made: Shape (side, side), shown to the network in three equal bands, or (side, side, 3); levels from 0 to
                255, and at least 64 pixels on a side.
            real: The same.
        """
        device = next(self._net.parameters()).device
        return float(self._net(_tensor(made, device), _tensor(real, device), normalize=True))


def _published(name: str) -> str:
    """Return what the published files call one of torchmetrics' tensors."""
    return re.sub(r"^lins\.(\d)", r"lin\1", re.sub(r"^net\.slice\d", "features", name))


def _tensor(picture: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return (1, 3, side, side) from 0 to 1."""
    levels = torch.from_numpy(np.atleast_3d(picture) / 255).float().permute(2, 0, 1)[None]
    return levels.expand(-1, 3, -1, -1).to(device)
