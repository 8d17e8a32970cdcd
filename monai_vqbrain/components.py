"""Every public component, for short names in bundle configurations.

`"imports": ["$import monai_vqbrain.components"]` loads them all, after which MONAI's component
locator finds each by its class name. A name that MONAI has too would be MONAI's, so none is.
"""

from __future__ import annotations

from monai_vqbrain import engines, handlers, inferers, interop, losses, networks, transforms
from monai_vqbrain.engines import *  # noqa: F403
from monai_vqbrain.handlers import *  # noqa: F403
from monai_vqbrain.inferers import *  # noqa: F403
from monai_vqbrain.interop import *  # noqa: F403
from monai_vqbrain.losses import *  # noqa: F403
from monai_vqbrain.networks import *  # noqa: F403
from monai_vqbrain.transforms import *  # noqa: F403

__all__ = [  # noqa: PLE0604
    *engines.__all__,
    *handlers.__all__,
    *inferers.__all__,
    *interop.__all__,
    *losses.__all__,
    *networks.__all__,
    *transforms.__all__,
]
