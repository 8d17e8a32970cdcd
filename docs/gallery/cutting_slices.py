"""
Slice a volume with MONAI transforms
====================================

Five transforms in a MONAI ``Compose`` turn a volume into 2D slices with the same size, spacing and
intensity range in every participant. ``inverse`` puts slices back into the volume.
"""

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from monai_vqbrain.cohorts import make_phantom, read_cohort
from monai_vqbrain.transforms import BrainMaskd, ExtractSlicesd, ScaleBrainIntensityd


def pipeline(axis: str, count: int = 8) -> Compose:
    """From a file to evenly spaced slices along an axis."""
    return Compose(
        [
            LoadImaged("image", reader="NibabelReader"),
            EnsureChannelFirstd("image"),
            BrainMaskd(),  # adds "mask"
            ScaleBrainIntensityd("image"),  # [0, 1] inside the brain
            ExtractSlicesd("image", axis=axis, size=(112, 112), count=count),
        ]
    )


# %%
# The volume is simulated. Replace its path by that of your own skull-stripped T1 image.

with TemporaryDirectory() as folder:
    cohort = read_cohort(make_phantom(f"{folder}/simulated", participants=2, second_sessions=0))
    item = {"image": str(cohort.scans[-1].path)}
    slices = {axis: pipeline(axis)(item) for axis in ("axial", "coronal", "sagittal")}
    many = pipeline("axial", count=40)(item)
    volume = Compose(pipeline("axial").transforms[:-1])(item)["image"]  # all but the last transform

# %%
# Each slice is an item of its own, with its image, its brain mask (the outline) and its position.

figure, panels = plt.subplots(3, 8, figsize=(12, 4.9), layout="constrained", facecolor="black")
for row, (axis, items) in zip(panels, slices.items(), strict=True):
    for panel, one in zip(row, items, strict=True):
        panel.imshow(one["image"][0].T, cmap="gray", vmin=0, vmax=1, origin="lower")
        panel.contour(one["mask"][0].T, levels=[0.5], colors="gold", linewidths=0.6)
        panel.set_title(f"{axis} {one['position_mm']:.0f} mm", color="white", fontsize=8)
        panel.axis("off")

# %%
# ``inverse`` interpolates between slices, at the voxels of the volume. A sagittal view of volumes
# from 40 and from 8 axial slices shows what lies between them.

back = ExtractSlicesd("image").inverse
figure, panels = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", facecolor="black")
views = {
    "volume": volume,
    "from 40 slices": back(many)["image"],
    "from 8 slices": back(slices["axial"])["image"],
}
for panel, (title, image) in zip(panels, views.items(), strict=True):
    panel.imshow(image[0, image.shape[1] // 2].T, cmap="gray", vmin=0, vmax=1, origin="lower")
    panel.set_title(title, color="white")
    panel.axis("off")
