"""For models of MONAI's own: its codebook format, and cached sampling of its transformer."""

from monai_vqbrain.interop.cached_transformer import CachedTransformer, CachedTransformerInferer
from monai_vqbrain.interop.monai_codebook import from_monai, to_monai

__all__ = ["CachedTransformer", "CachedTransformerInferer", "from_monai", "to_monai"]
