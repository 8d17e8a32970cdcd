"""
Compare quantizers on one slice
===============================

A quantizer replaces each encoding by one of K codes. Three of them get the same encodings and 64
codes: a learned codebook, two small codebooks side by side (product quantization), and a fixed grid
(finite scalar quantization, FSQ).

To keep the example short there is no network. An encoding is the first two principal components of
a square of 4x4 pixels, and a code is decoded to the mean of all squares that have it.
"""

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from monai_vqbrain import CodebookQuantizer, ScalarQuantizer
from monai_vqbrain.cohorts import make_phantom, read_cohort
from monai_vqbrain.metrics import ssim_brain
from monai_vqbrain.transforms import BrainMaskd, ExtractSlicesd, ScaleBrainIntensityd

extract = ExtractSlicesd("image", size=(112, 112), count=16)
steps = [LoadImaged("image", reader="NibabelReader"), EnsureChannelFirstd("image"), BrainMaskd()]
load = Compose([*steps, ScaleBrainIntensityd("image"), extract])
with TemporaryDirectory() as folder:
    scan = read_cohort(make_phantom(f"{folder}/simulated", 2, second_sessions=0)).scans[-1]
    items = load({"image": str(scan.path)})
images, masks = (torch.stack([one[key].as_tensor() for one in items]) for key in ("image", "mask"))

# %%
# Squares, their principal components, and encodings of the form that a quantizer takes: (B, D, h,
# w). The quantizers learn from the encodings inside the brain.

squares = F.unfold(images, 4, stride=4)  # (16, 16 pixels, 28 * 28)
flat = squares.transpose(1, 2).reshape(-1, 16)
scores = flat @ torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:2].T
brain = F.avg_pool2d(masks.float(), 4).flatten() == 1
scores = (scores - scores[brain].mean(0)) / scores[brain].std(0)
encodings = scores.view(16, 28, 28, 2).permute(0, 3, 1, 2)  # (16, 2, 28, 28)

torch.manual_seed(0)
quantizers = {
    "one codebook of 64": CodebookQuantizer(64, code_dim=2),
    "two codebooks of 8": CodebookQuantizer(8, code_dim=2, groups=2),
    "FSQ, 8 x 8 levels": ScalarQuantizer((8, 8)),
}
for _ in range(100):  # moving averages of the codebooks; FSQ has nothing to learn
    for quantizer in quantizers.values():
        quantizer(scores[brain].T[None, :, :, None])

# %%
# Left: encodings inside the brain; a change of colour is a change of code. Middle: the codes of one
# slice, coloured by their mean intensity. Right: the slice decoded from its codes. The learned
# codebook divides the plane where encodings are frequent; the other two divide each component
# separately.

at = 6
figure, panels = plt.subplots(3, 3, figsize=(9, 9), layout="constrained")
for row, (name, quantizer) in zip(panels, quantizers.items(), strict=True):
    codes = quantizer.codes(encodings)
    if codes.dim() == 4:  # (16, 2, 28, 28): one number for both codes of a position
        codes = 8 * codes[:, 0] + codes[:, 1]
    each = codes.flatten()
    counts = each.bincount(minlength=64)
    squares_of_codes = torch.zeros(64, 16).index_add_(0, each, flat) / counts.clamp(min=1)[:, None]
    decoded = F.fold(squares_of_codes[codes[at].flatten()].T[None], (112, 112), 4, stride=4)
    score = ssim_brain(decoded, images[at : at + 1], masks[at : at + 1]).item()
    row[0].scatter(*scores[brain].T, c=each[brain] * 37 % 64, s=3, cmap="prism")
    row[0].set_title(f"{name}: {(each[brain].bincount(minlength=64) > 0).sum()} in use")
    row[1].imshow(squares_of_codes.mean(1)[codes[at]].T, cmap="turbo", origin="lower")
    row[2].imshow(decoded[0, 0].T, cmap="gray", vmin=0, vmax=1, origin="lower")
    row[2].set_title(f"in-brain SSIM {score:.2f}")
    for panel in row:
        panel.set(xticks=[], yticks=[])
