"""The networks: tensors in, tensors out."""

from monai_vqbrain.networks.fsq import ScalarQuantizer
from monai_vqbrain.networks.pixelcnn import PixelCNN
from monai_vqbrain.networks.quantizer import CodebookQuantizer
from monai_vqbrain.networks.vqvae import BrainVQVAE

__all__ = ["BrainVQVAE", "CodebookQuantizer", "PixelCNN", "ScalarQuantizer"]
