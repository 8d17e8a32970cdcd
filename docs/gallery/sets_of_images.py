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
from monai_vqbrain.metrics.detectability import DetectorProtocol, detectability
from monai_vqbrain.metrics.distribution import kid, neighbours
from monai_vqbrain.metrics.faults import blur, missing_parts, mode_collapse, noise, wrong_contrast
from monai_vqbrain.metrics.features import RandomConvFeatures, Standardiser, texture_features
from monai_vqbrain.transforms import BrainMaskd, ExtractSlicesd, ScaleBrainIntensityd

extract = ExtractSlicesd("image", size=(80, 80), spacing=2.5, count=12)
steps = [LoadImaged("image", reader="NibabelReader"), EnsureChannelFirstd("image"), BrainMaskd()]
load = Compose([*steps, ScaleBrainIntensityd("image"), extract])
with TemporaryDirectory() as folder:
    cohort = read_cohort(make_phantom(folder, 12, resolution_mm=2.5, second_sessions=0))
    volumes = [load({"image": str(scan.path)}) for scan in cohort.scans]
images = np.stack([[one["image"][0].numpy() for one in items] for items in volumes])
training, held_out, others = images.reshape(3, 4 * 12, 80, 80)  # of four participants each

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
# KID is computed in two feature spaces that need no download: a network with random weights, and
# textures. To save time, the classifier of the detectability is trained with one seed and half of
# the usual steps.

random = RandomConvFeatures()
standardise = Standardiser.fit(random(training)), Standardiser.fit(texture_features(training))
real = standardise[0](random(held_out)), standardise[1](texture_features(held_out))
participants = np.repeat(np.arange(4), 12)
protocol = DetectorProtocol(steps=75)
rows = []
for synthetic in sets.values():
    found = standardise[0](random(synthetic)), standardise[1](texture_features(synthetic))
    auc = detectability(training, held_out, participants, synthetic, [0], protocol).auc.value
    coverage = neighbours(real[0], found[0]).coverage
    rows.append([kid(real[0], found[0]), kid(real[1], found[1]), coverage, auc])

# %%
# Top: three slices of each set. Below: the measures. Compare each with the set without fault: with
# 48 images of four participants they vary, and an unbiased KID can be below 0.

titles = ("KID, random network", "KID, texture", "coverage", "detectability (AUC)")
figure = plt.figure(figsize=(12, 7.5), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=(3, 2))
for column, (name, synthetic) in zip(above.subplots(3, 6).T, sets.items(), strict=True):
    column[0].set_title(name)
    for panel, number in zip(column, (4, 18, 32), strict=True):
        panel.imshow(synthetic[number].T, cmap="gray", vmin=0, vmax=1, origin="lower")
        panel.axis("off")
charts = below.subplots(1, 4, sharey=True)
for panel, title, values in zip(charts, titles, np.transpose(rows), strict=True):
    panel.barh(list(sets), values, color=["tab:green", *["tab:red"] * 5])
    panel.set_title(title)
    if title.startswith("KID"):
        panel.set_xscale("symlog", linthresh=0.1)
charts[0].invert_yaxis()
