"""What the Inception network of FID, KID and IS makes of pictures; its weights are a file that the person names.

That file is ``weights-inception-2015-12-05-6726825d.pth``, which torch-fidelity publishes with its release 0.2.0 (the
network of the original FID, converted from TensorFlow; Apache-2.0). It is a pickle, and no pickle is opened here, so it
has to be converted once, where it is trusted::

    python -c "import torch; from safetensors.torch import save_file; save_file(torch.load(
    'weights-inception-2015-12-05-6726825d.pth', weights_only=True), 'inception.safetensors')"
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called, opened

LAYERS = ("2048", "logits_unbiased")
"""What FID and KID compare, and what IS is computed from."""

_AT_ONCE = 8


class Inception:
    """The network, ready to be asked."""

    def __init__(self, file: Path) -> None:
        """Read the weights.

        Args:
            file: The safetensors file that the module's first lines tell how to make.

        Raises:
            UserError: It is not that file.
        """
        with opened(file, called(file)) as stream:
            data = stream.read()
        try:
            # torch-fidelity reads its weights with torch.load from a path: this one leads to bytes of our own.
            own = io.BytesIO()
            torch.save(load(data), own)
            own.seek(0)
            net = FeatureExtractorInceptionV3("inception-v3-compat", list(LAYERS), feature_extractor_weights_path=own)
        except (SafetensorError, RuntimeError) as error:
            raise UserError(
                f"{called(file)} holds no Inception weights as safetensors: convert torch-fidelity's "
                "weights-inception-2015-12-05-6726825d.pth, as mmmrs_demo/evaluation/inception.py tells."
            ) from error
        self._net = net.to("cuda" if torch.cuda.is_available() else "cpu")

    @torch.inference_mode()
    def see(self, pictures: Iterable[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Look at pictures, uint8 of shape (side, side, 3), one after another.

        Returns:
            Features of shape (pictures, 2048), and logits of shape (pictures, 1008).
        """
        device = next(self._net.parameters()).device
        rest, found = iter(pictures), []
        while some := list(islice(rest, _AT_ONCE)):
            batch = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).to(device)
            found.append([layer.cpu() for layer in self._net(batch)])
        features, logits = (torch.cat(layer) for layer in zip(*found, strict=True))
        return features, logits
