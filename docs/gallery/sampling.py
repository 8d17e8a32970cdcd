"""
Draw codes one by one
=====================

A PixelCNN gives the probability of each code, given those before it. A sample is drawn code by
code, and the package's sampler computes every feature only once (cached). The plain way runs the
whole network for each code. Both draw the same codes.

To keep the example short there is no VQ-VAE: a code is the mean intensity of a square of 4x4
pixels, in 16 levels.
"""

from tempfile import TemporaryDirectory
from time import perf_counter

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from monai_vqbrain import AncestralSampler, PixelCNN, PlainSampler
from monai_vqbrain.cohorts import make_phantom, read_cohort
from monai_vqbrain.transforms import BrainMaskd, ExtractSlicesd, ScaleBrainIntensityd

extract = ExtractSlicesd("image", size=(80, 80), spacing=2.5, count=16)
steps = [LoadImaged("image", reader="NibabelReader"), EnsureChannelFirstd("image"), BrainMaskd()]
load = Compose([*steps, ScaleBrainIntensityd("image"), extract])
with TemporaryDirectory() as folder:
    cohort = read_cohort(make_phantom(f"{folder}/simulated", 6, second_sessions=0))
    items = [one for scan in cohort.scans for one in load({"image": str(scan.path)})[4:12]]
images = torch.stack([one["image"].as_tensor() for one in items])
codes = (15 * F.avg_pool2d(images, 4)[:, 0]).round().long()  # (48, 20, 20), 0..15

# %%
# A small prior, trained for a few seconds on the 48 grids of six simulated participants.

torch.manual_seed(0)
prior = PixelCNN(num_codes=16, grid=(20, 20), channels=32, layers=4)
optimizer = torch.optim.AdamW(prior.parameters(), lr=4e-3, weight_decay=0.1)
for _ in range(200):
    batch = codes[torch.randint(len(codes), (8,))]
    loss = F.cross_entropy(prior(batch), batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
# The order of the scan, from dark to bright, and what one position (the cross) can see: a code is
# seen if changing it changes the logits. A position sees no code that comes later.

here = (10, 10)
changed = codes[:1].repeat(20 * 20, 1, 1)  # one grid for each position, changed only there
changed.flatten(1).diagonal().mul_(-1).add_(15)
with torch.no_grad():
    before = prior.eval()(codes[:1])[0, :, here[0], here[1]]
    seen = (prior(changed)[:, :, here[0], here[1]] - before).abs().amax(1).view(20, 20) > 1e-5
figure, panels = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
panels[0].imshow(torch.arange(20 * 20).view(20, 20).T, origin="lower")
panels[0].set_title("order in which codes are drawn")
panels[1].imshow(seen.T, cmap="Blues", origin="lower", vmin=0, vmax=1.5)
panels[1].plot(*here, "x", color="tab:red", markersize=10)
panels[1].set_title("codes that one position sees")
for panel in panels:
    panel.set(xticks=[], yticks=[])

# %%
# Three samples while they are drawn; blue squares are not drawn yet. Last column: grids of
# simulated brains, for comparison.

drawn = AncestralSampler()(prior, 3, torch.Generator().manual_seed(0))
columns = (4, 7, 10, 13, 16, 20)  # of 20 that are drawn
figure, panels = plt.subplots(3, 7, figsize=(12, 5.2), layout="constrained")
for row, sample, real in zip(panels, drawn, codes[[3, 20, 36]], strict=True):
    for panel, count in zip(row, columns, strict=False):
        grid = sample.float().clone()
        grid[count:] = torch.nan
        panel.imshow(grid.T, cmap="gray", vmin=0, vmax=15, origin="lower")
        panel.set(facecolor="midnightblue", title=f"{20 * count} codes")
    row[-1].imshow(real.T, cmap="gray", vmin=0, vmax=15, origin="lower")
    row[-1].set_title("real")
for panel in panels.flat:
    panel.set(xticks=[], yticks=[])

# %%
# Cached and plain sampling draw the same codes; in float64 rounding cannot make a difference
# either.

prior.double()
results = {}
for sampler in (PlainSampler(), AncestralSampler()):
    start = perf_counter()
    results[type(sampler).__name__] = sampler(prior, 1, torch.Generator().manual_seed(1))
    print(f"{type(sampler).__name__}: {perf_counter() - start:.2f} s")
print("equal:", torch.equal(*results.values()))
