"""
What a VQ-VAE loses
===================

A VQ-VAE replaces each square of 4x4 pixels by one of 512 codes: 16 numbers by 9 bits. What it loses
depends on how long it is trained. This example trains for a few seconds only, on simulated brains,
with a plain training loop; ``vqbrain train vqvae`` trains for five minutes.
"""

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from monai_vqbrain import BrainVQVAE, SliceSSIMLoss, VQVAELoss
from monai_vqbrain.cohorts import make_phantom, read_cohort
from monai_vqbrain.metrics import ssim_brain
from monai_vqbrain.transforms import BrainMaskd, ExtractSlicesd, ScaleBrainIntensityd

extract = ExtractSlicesd("image", size=(112, 112), count=16)
steps = [LoadImaged("image", reader="NibabelReader"), EnsureChannelFirstd("image"), BrainMaskd()]
load = Compose([*steps, ScaleBrainIntensityd("image"), extract])
with TemporaryDirectory() as folder:
    cohort = read_cohort(make_phantom(f"{folder}/simulated", 5, second_sessions=0))
    items = [one for scan in cohort.scans for one in load({"image": str(scan.path)})]
images, masks = (torch.stack([one[key].as_tensor() for one in items]) for key in ("image", "mask"))

# %%
# Four participants are for training, the fifth for the figures below. L1 and SSIM are the losses of
# the package's bundle.

training, held_out, inside = images[:64], images[[67, 70, 74]], masks[[67, 70, 74]]
torch.manual_seed(0)
network = BrainVQVAE()
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, betas=(0.9, 0.95))
loss = VQVAELoss({"l1": torch.nn.L1Loss(), "ssim": SliceSSIMLoss(stride=2)})
columns = {"original": held_out}
for step in range(1, 161):
    x, y = torch.randint(112 - 64 + 1, (2,)).tolist()
    batch = training[torch.randint(64, (8,)), :, x : x + 64, y : y + 64]  # random crops
    value = loss(network(batch), batch)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if step in (20, 60, 160):
        with torch.no_grad():
            columns[f"after {step} steps"] = network.eval()(held_out)
        network.train()
codes = network.index_quantize(held_out)

# %%
# Below each reconstruction: SSIM inside the brain. Right: the codes, and what is lost (three times
# the difference). Edges and thin sulci are lost first.

figure, panels = plt.subplots(3, 6, figsize=(12, 6.6), layout="constrained", facecolor="black")
columns["codes"] = codes[:, None]
columns["lost"] = 3 * (columns["after 160 steps"] - held_out).abs()
for column, (title, pictures) in zip(panels.T, columns.items(), strict=True):
    looks = {"cmap": "prism"} if title == "codes" else {"cmap": "gray", "vmin": 0, "vmax": 1}
    column[0].set_title(title, color="white")
    for number, panel in enumerate(column):
        panel.imshow(pictures[number, 0].T, origin="lower", **looks)
        panel.set(xticks=[], yticks=[])
    if title.startswith("after"):
        for panel, score in zip(column, ssim_brain(pictures, held_out, inside), strict=True):
            panel.set_xlabel(f"{score:.2f}", color="white")
