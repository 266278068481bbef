"""The first layer's whitening kernel in PyTorch: the twin of jaxnets.data.whitening."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_ref.augment import normalize

_IMAGES, _EPS = 5000, 5e-4


def whitening_kernel(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The kernel (24, 3, 2, 2), float64, of uint8 images (N, H, W, 3), as airbench makes it."""
    x = normalize(images[:_IMAGES], mean, std, torch.float64).permute(0, 3, 1, 2)
    covariance, count = torch.zeros(12, 12, dtype=torch.float64), 0
    for some in x.split(500):
        patches = F.unfold(some, 2).transpose(1, 2).reshape(-1, 12)
        covariance += patches.T @ patches
        count += len(patches)
    variances, vectors = torch.linalg.eigh(covariance / count)
    rows = []
    for variance, vector in zip(variances.flip(0), vectors.T.flip(0), strict=True):
        if variance < 1e-10 * variances[-1]:
            rows.append(torch.zeros(12, dtype=torch.float64))
            continue
        weighted = vector @ torch.arange(1, 13, dtype=torch.float64)
        rows.append(torch.sign(weighted) * vector / torch.sqrt(variance + _EPS))
    half = torch.stack(rows).view(12, 3, 2, 2)
    return torch.cat([half, -half])
