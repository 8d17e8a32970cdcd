"""
Judge a set of images
=====================

Is a set of synthetic slices like real ones? Three measures of ``vqbrain evaluate`` on sets with a
known fault: KID (the distance of two distributions; smaller is better), coverage (the share of real
images with a synthetic one nearby; it falls if variety is missing), and detectability (the AUC of a
classifier that distinguishes both; 0.5 is chance). No measure finds every fault, so the report has
all of them.
"""

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from monai_vqbrain.cohorts import make_phantom, read_cohort
from monai_vqbrain.metrics.detectability import detectability
from monai_vqbrain.metrics.distribution import kid, neighbours
from monai_vqbrain.metrics.faults import blur, missing_parts, mode_collapse, noise, wrong_contrast
from monai_vqbrain.metrics.features import RandomConvFeatures, Standardiser
from monai_vqbrain.transforms import BrainMaskd, ExtractSlicesd, ScaleBrainIntensityd

extract = ExtractSlicesd("image", size=(112, 112), count=12)
steps = [LoadImaged("image", reader="NibabelReader"), EnsureChannelFirstd("image"), BrainMaskd()]
load = Compose([*steps, ScaleBrainIntensityd("image"), extract])
with TemporaryDirectory() as folder:
    cohort = read_cohort(make_phantom(f"{folder}/simulated", 12, second_sessions=0))
    volumes = [load({"image": str(scan.path)}) for scan in cohort.scans]
images = np.stack([[one["image"][0].numpy() for one in items] for items in volumes])
training, held_out, others = images.reshape(3, 4 * 12, 112, 112)  # of four participants each

# %%
# The "synthetic" sets are slices of four other participants: unchanged, or with a fault.

sets = {
    "no fault": others,
    "blurred": blur(others, sigma=1.0),
    "noisy": noise(others, sd=0.05),
    "other contrast": wrong_contrast(others, gamma=0.7),
    "parts missing": missing_parts(others, degrees=40),
    "four images only": mode_collapse(others, kept=4),
}

# %%
# Features come from a network with random weights; nothing is downloaded.

features = RandomConvFeatures()
standardise = Standardiser.fit(features(training))
real = standardise(features(held_out))
participants = np.repeat(np.arange(4), 12)
measures: dict[str, list[float]] = {"KID": [], "coverage": [], "detectability (AUC)": []}
for synthetic in sets.values():
    found = standardise(features(synthetic))
    auc = detectability(training, held_out, participants, synthetic, seeds=[0]).auc.value
    for values, value in zip(
        measures.values(), (kid(real, found), neighbours(real, found).coverage, auc), strict=True
    ):
        values.append(value)

# %%
# Top: three slices of each set. Below: the measures. Compare each with the set without fault, whose
# values are not perfect either: they come from few participants.

figure = plt.figure(figsize=(12, 7.5), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=(3, 2))
panels = above.subplots(3, 6)
for column, (name, synthetic) in zip(panels.T, sets.items(), strict=True):
    column[0].set_title(name)
    for panel, number in zip(column, (4, 18, 32), strict=True):
        panel.imshow(synthetic[number].T, cmap="gray", vmin=0, vmax=1, origin="lower")
        panel.axis("off")
for panel, (name, values) in zip(below.subplots(1, 3), measures.items(), strict=True):
    panel.barh(list(sets), values, color=["tab:green", *["tab:red"] * 5])
    panel.set_title(name)
    panel.invert_yaxis()
    if name == "KID":
        panel.set_xscale("symlog", linthresh=0.1)
