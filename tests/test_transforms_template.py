"""The template's tissues on a grid, against nilearn's own images, and as priors of the anatomy."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn import datasets

from monai_vqbrain.metrics.anatomy import fit_tissues, measure_anatomy
from monai_vqbrain.transforms.template import template_image, template_tissues


@pytest.fixture(scope="module")
def slices() -> tuple[np.ndarray, np.ndarray]:
    """Axial slices of the template at 1 mm, 20, 30, 40 and 50 mm: (W, H, 4), and their affine."""
    image, affine = template_image()
    own = affine @ np.diag([1, 1, 10, 1])
    own[2, 3] = 20
    first = round(20 - affine[2, 3])
    return image[:, :, first : first + 40 : 10], own


def test_tissues_are_those_of_nilearn(slices: tuple[np.ndarray, np.ndarray]) -> None:
    image, affine = slices
    found = template_tissues(affine, image.shape)
    assert found.shape == (*image.shape, 3)
    whole = datasets.load_mni152_brain_mask(resolution=1)
    first = round(20 - whole.affine[2, 3])
    brain = np.asarray(whole.dataobj)[:, :, first : first + 40 : 10] > 0
    for number, load in (
        (1, datasets.load_mni152_gm_template),
        (2, datasets.load_mni152_wm_template),
    ):
        whole = load(resolution=1)
        expected = np.asarray(whole.dataobj)[:, :, first : first + 40 : 10]
        np.testing.assert_allclose(found[brain, number], expected[brain], atol=1e-4)
    assert (found >= 0).all()
    assert found.sum(axis=-1).max() <= 1 + 1e-5
    assert not found[~brain].any()


def test_as_priors_they_bring_the_fractions_nearer_to_the_templates(
    slices: tuple[np.ndarray, np.ndarray],
) -> None:
    image, affine = slices
    stack = np.clip(np.moveaxis(image, 2, 0) / image.max(), 0, 1).astype(np.float32)
    priors = np.moveaxis(template_tissues(affine, image.shape), 2, 0)
    brain = stack > 0.1
    tissues = fit_tissues(stack)
    plain = measure_anatomy(stack, (1, 1), tissues)
    given = measure_anatomy(stack, (1, 1), tissues, priors=priors, position=np.arange(4))
    for number, name in ((1, "grey_fraction"), (2, "white_fraction")):
        true = np.array([p[b, number].mean() for p, b in zip(priors, brain, strict=True)])
        assert (np.abs(given[name] - true) < np.abs(plain[name] - true)).all(), name
