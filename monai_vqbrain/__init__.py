"""From T1-weighted brain MRI to new brain slices: a VQ-VAE and a PixelCNN prior on MONAI.

The stages are functions (`monai_vqbrain.prepare(source, run)`), the components classes
(`from monai_vqbrain import BrainVQVAE`). Both are imported when they are first used, so that
neither `import monai_vqbrain` nor the command line's help imports torch and MONAI; their names
and types are in `__init__.pyi`.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_names]  # noqa: PLE0604
