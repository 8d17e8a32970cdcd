"""What the networks are trained to make small: tensors in, scalars out."""

from monai_vqbrain.losses.adversary import PatchAdversary
from monai_vqbrain.losses.features import FeatureLoss
from monai_vqbrain.losses.ssim import SliceSSIMLoss
from monai_vqbrain.losses.vqvae import VQVAELoss

__all__ = ["FeatureLoss", "PatchAdversary", "SliceSSIMLoss", "VQVAELoss"]
