"""The prior over code grids: a causal convolutional network, code by code in raster order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_vqbrain.networks.conditions import ConditionEncoder, Known
from monai_vqbrain.networks.likeness import CodeLikeness
from monai_vqbrain.networks.plan import VolumePlan

CODE_WIDTH = 32  # numbers that stand for one code; the codebook's own dimension is of that order
CONDITION_WIDTH = 64
SCANS = ("rows", "columns")


class PixelCNN(nn.Module):
    """Give the logits of every code from those before it: the rows above, this row to the left.

    A vertical stack sees all rows above, a horizontal stack this row to the left, and each block
    links the first to the second, so that no code before a position is out of sight for the
    masks' sake (the classic blind spot). Strict causality lies in the first layer alone: it looks
    at codes strictly above and strictly left, so every later layer may look at its own position.
    What a position sees ends `layers` + 3 codes away; beyond that only its learned embedding of
    the absolute position speaks.

    What is known of a slice (`conditions`) becomes one vector, which shifts every block. The plan
    of its volume (`plan`, a blurred version, see VolumePlan) and the codes of the slice before it
    (`neighbour`) become features that are added where both stacks begin. Each may be missing.

    With `likeness`, similar codes share statistical strength: each code's embedding and its row of
    the head are the sum of a free part and of a part that is linear in the code's features, which
    `set_code_features` computes from the codebook (see CodeLikeness). On a small cohort, where a
    code occurs a few hundred times, this saves a quarter of a bit per code.

    Args:
        num_codes: K, the size of the codebook.
        grid: (h, w), the code grid's shape, h its first spatial dimension; (G, h, w) with G codes
            at each position, which come one after the other.
        channels: width of the vertical stack, and of what the head reads.
        layers: number of blocks.
        dropout: probability of dropping a hidden unit of a block, in training.
        scan: "rows", h the slower of the two dimensions; or "columns", w the slower.
        conditions: see ConditionEncoder; None for none.
        neighbour: take the codes of the previous slice.
        likeness: how many features of each code are known; 0 for none.
        horizontal_channels: width of the horizontal stack; None for half of the other. A sampler
            steps it code by code, the other row by row: a narrow one is quick to sample from.
        late_conditions: names of conditions whose part is learnt last, see ConditionEncoder: those
            that describe a participant.
        plan: components of the plan; 0 for none, which it also is without a position among the
            conditions.
        plan_channels: width of the network that reads the plan; None for that of the vertical
            stack. A wide one overfits the plans of few participants.

    Raises:
        ValueError: if an argument is out of its range.

    Source:
        van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016): the two
        stacks, and conditions as biases. GELU and residual links in both stacks in place of its
        gates.

    Example:
        >>> prior = PixelCNN(num_codes=512, grid=(8, 6), channels=16, layers=2)
        >>> prior(torch.zeros(4, 8, 6, dtype=torch.long)).shape
        torch.Size([4, 512, 8, 6])
    """

    def __init__(  # noqa: PLR0913  (a network's settings, by name)
        self,
        num_codes: int = 512,
        grid: Sequence[int] = (32, 32),
        channels: int = 64,
        layers: int = 6,
        dropout: float = 0.0,
        scan: str = "rows",
        *,
        conditions: Known | None = None,
        neighbour: bool = False,
        likeness: int = 0,
        horizontal_channels: int | None = None,
        late_conditions: Sequence[str] = (),
        plan: int = 0,
        plan_channels: int | None = None,
    ) -> None:
        super().__init__()
        across = (channels + 1) // 2 if horizontal_channels is None else horizontal_channels
        narrowest = min(channels, across, channels if plan_channels is None else plan_channels)
        _check(num_codes, grid, narrowest, layers, dropout, scan)
        self.num_codes = num_codes
        self.groups = int(grid[0]) if len(grid) == 3 else 1
        self.height, self.width = (int(side) for side in grid[-2:])
        self.by_columns = scan == "columns"
        self.settings: dict[str, Any] = {
            "num_codes": num_codes,
            "grid": [int(side) for side in grid],
            "channels": channels,
            "layers": layers,
            "dropout": dropout,
            "scan": scan,
            "conditions": {name: list(values) for name, values in (conditions or {}).items()},
            "neighbour": neighbour,
            "likeness": likeness,
            "horizontal_channels": across,
            "late_conditions": list(late_conditions),
            "plan": plan,
            "plan_channels": plan_channels,
        }
        self.conditions = (
            ConditionEncoder(conditions, CONDITION_WIDTH, late_conditions) if conditions else None
        )
        widths = (CONDITION_WIDTH, self.conditions.late_width) if self.conditions else (0, 0)
        self.embedding = nn.Embedding(self.groups * num_codes, CODE_WIDTH)
        self.neighbour = ContextEncoder(CODE_WIDTH, channels, across) if neighbour else None
        known = conditions or {}
        position = next((n for n in ("position_mm", "position_rel") if n in known), None)
        self.plan: VolumePlan | None = None
        self.plan_reader: ContextEncoder | None = None
        if plan and position:
            sides = [self.height, self.width]
            self.plan = VolumePlan(plan, sides, known, late_conditions, position)
            self.plan_reader = ContextEncoder(1, channels, across, plan_channels)
        self.above = nn.Conv2d(CODE_WIDTH, channels, (3, 7), padding=(3, 3))
        self.left = nn.Conv2d(CODE_WIDTH, across, (1, 3), padding=(0, 3))
        self.position_vertical = nn.Parameter(0.1 * torch.randn(channels, *self.raster))
        self.position_horizontal = nn.Parameter(0.1 * torch.randn(across, *self.raster))
        self.blocks = nn.ModuleList(
            PixelCNNBlock(channels, across, dropout, *widths) for _ in range(layers)
        )
        self.join = nn.Conv2d(across, channels, 1, bias=False)  # the head reads both stacks
        # what the codes before it at the same position say to each group but the first
        self.within = nn.Embedding((self.groups - 1) * num_codes, channels)
        self.head = nn.Conv2d(channels, self.groups * num_codes, 1)
        # The initial output is nearly uniform, log2(K) bits per code, so nothing must be unlearned.
        for parameter in self.head.parameters():
            nn.init.normal_(parameter, std=0.01)
        shape = (self.groups, num_codes)
        self.likeness = CodeLikeness(shape, likeness, CODE_WIDTH, channels) if likeness else None
        if likeness:
            nn.init.normal_(self.embedding.weight, std=0.3)  # it adds to what is shared

    @torch.jit.unused
    def set_code_features(self, vectors: Tensor) -> None:
        """Set the codes' features from the codebook; does nothing without `likeness`.

        Args:
            vectors: the codebook's vectors, (K, D), or (G, K, D) with several groups.

        Raises:
            ValueError: if their number is not the number of codes.
        """
        if self.likeness is not None:
            self.likeness.set_features(vectors)

    def embedding_weight(self) -> Tensor:
        """A row for each code, (G * K, CODE_WIDTH)."""
        weight: Tensor = self.embedding.weight
        return weight if self.likeness is None else self.likeness.embedding(weight)

    def head_weight(self) -> Tensor:
        """A row for each code, (G * K, channels)."""
        weight = self.head.weight[:, :, 0, 0]
        return weight if self.likeness is None else self.likeness.head(weight)

    @torch.jit.unused
    def hidden_kernels(self) -> list[nn.Parameter]:
        """The kernels between embedding and head, which MuonAdamW takes as matrices."""
        parts = (self.above, self.left, self.blocks, self.join, self.neighbour, self.plan_reader)
        hidden = (part.parameters() for part in parts if part is not None)
        return [parameter for part in hidden for parameter in part if parameter.ndim > 1]

    @torch.jit.unused
    def late_parameters(self) -> list[nn.Parameter]:
        """Those of the parts that are learnt last, see LateParts.

        Before they are learnt they say nothing: the prior is the one without them.
        """
        parts: list[Any] = [self.neighbour]
        if self.conditions is not None:
            encoders = zip(self.conditions.encoders, self.conditions.late, strict=True)
            parts += [encoder for encoder, late in encoders if late]
            parts += [block.late_condition for block in self.blocks]
        return [p for part in parts if part is not None for p in part.parameters()]

    @property
    def raster(self) -> tuple[int, int]:
        """(rows, columns) as they are scanned: (h, w), or (w, h) by columns."""
        return (self.width, self.height) if self.by_columns else (self.height, self.width)

    def forward(
        self,
        codes: Tensor,
        condition: Tensor | None = None,
        neighbour: Tensor | None = None,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Logits of every code given those before it, all positions at once.

        Args:
            codes: 0..K-1, (B, h, w) or (B, G, h, w), of any integer type, or whole numbers as
                floating point (cut to integers here).
            condition: (B, C) rows as of `conditions.row`, NaN for what is missing; None: all is.
            neighbour: codes of the previous slice, as `codes`; -1 throughout for a slice that has
                none, and None where no slice has.
            plan: of the slices, (B, h, w) as of VolumePlan; NaN throughout for a slice without, and
                None where no slice has one.

        Returns:
            (B, K, h, w) logits, or (B, K, G, h, w) with several groups; those at (i, j) do not
            depend on the codes at (i, j) and later, but for the groups before at the position.

        Raises:
            ValueError: if the shape is not the grid's, or (on a CPU) a code is out of range.
        """
        codes = self.as_grid(codes)
        raster = self.to_raster(codes)  # (B, G, rows, columns)
        rows, columns = raster.shape[2], raster.shape[3]
        x = self.embed(raster)
        # Padding on both sides, and the overhang cut off, shifts a kernel to look strictly back.
        vertical = self.above(x)[:, :, :rows] + self.position_vertical
        horizontal = self.left(x)[:, :, :, :columns] + self.position_horizontal
        vector = self.condition_vector(condition)
        context = self.context(neighbour, plan)
        if context is not None:
            vertical, horizontal = vertical + context[0], horizontal + context[1]
        for block in self.blocks:
            vertical, horizontal = block(vertical, horizontal, vector)
        return self.from_raster(self.logits(vertical + self.join(horizontal), raster))

    def logits(self, features: Tensor, raster: Tensor) -> Tensor:
        """Logits (B, K, G, rows, columns) of the last features and of the codes themselves."""
        k = self.num_codes
        weight = self.head_weight()[:, :, None, None]
        found: list[Tensor] = []
        for group in range(self.groups):
            if group > 0:
                before = self.within(raster[:, group - 1] + (group - 1) * k)
                features = features + before.permute(0, 3, 1, 2)
            part = slice(group * k, (group + 1) * k)
            bias = self.head.bias
            assert bias is not None  # for TorchScript and mypy
            found.append(F.conv2d(self.activate(features), weight[part], bias[part]))
        return torch.stack(found, dim=2)

    def activate(self, features: Tensor) -> Tensor:
        """What the head sees of the last features; with several groups not linear."""
        return F.gelu(features) if self.groups > 1 else features

    def embed(self, raster: Tensor) -> Tensor:
        """Codes (B, G, rows, columns) -> (B, CODE_WIDTH, rows, columns), the sum over groups."""
        first = self.num_codes * torch.arange(self.groups, device=raster.device)
        vectors = F.embedding(raster + first[:, None, None], self.embedding_weight())
        return vectors.sum(1).permute(0, 3, 1, 2)  # of (B, G, rows, columns, CODE_WIDTH)

    def condition_vector(self, condition: Tensor | None) -> Tensor | None:
        """What the conditions (B, C) say to every block: (B or 1, channels), if anything."""
        if self.conditions is None:
            if condition is not None and condition.shape[-1] > 0:
                raise ValueError("this prior was trained without conditions: give none")
            return None
        if condition is None:
            size = [1, len(self.conditions.encoders)]
            condition = torch.full(size, torch.nan, device=self.position_vertical.device)
        vector: Tensor = self.conditions(condition.to(self.position_vertical.dtype))
        return vector

    def context(self, neighbour: Tensor | None, plan: Tensor | None) -> list[Tensor] | None:
        """What slice before and plan give to both stacks: (B, C, rows, columns), if anything."""
        if neighbour is not None and self.neighbour is None:
            raise ValueError("this prior was trained without neighbouring slices: give none")
        if plan is not None and self.plan_reader is None:
            raise ValueError("this prior was trained without a plan: give none")
        found: list[Tensor] | None = None
        if neighbour is not None and self.neighbour is not None:
            if neighbour.dim() == 3:
                neighbour = neighbour[:, None]
            raster = self.to_raster(neighbour.long())
            found = self.neighbour(self.embed(raster.clamp(min=0)), raster[:, :1] >= 0)
        if plan is not None and self.plan_reader is not None:
            x = self.to_raster(plan).to(self.position_vertical.dtype)
            read: list[Tensor] = self.plan_reader(x.nan_to_num(), ~x.isnan())
            found = read if found is None else [found[0] + read[0], found[1] + read[1]]
        return found

    @torch.jit.unused
    def draw_plan(
        self,
        condition: Tensor | None,
        generator: torch.Generator,
        base: Tensor | None = None,
        guidance: float = 1.0,
    ) -> Tensor | None:
        """Draw plans for conditions, see VolumePlan; None if there is no plan or no condition."""
        if self.plan is None or condition is None or not self.plan.fitted:
            return None
        if condition.shape[-1] != len(self.settings["conditions"]):
            raise ValueError(f"rows of {condition.shape[-1]} conditions: this prior has others")
        drawn: Tensor = self.plan.draw(condition, generator, base, guidance)
        return drawn

    def to_raster(self, codes: Tensor) -> Tensor:
        """(B, h, w) or (B, G, h, w) -> (B, G, rows, columns) as they are scanned."""
        if codes.dim() == 3:
            codes = codes[:, None]
        return codes.transpose(2, 3) if self.by_columns else codes

    def from_raster(self, logits: Tensor) -> Tensor:
        """(B, K, G, rows, columns) -> (B, K, h, w), or (B, K, G, h, w) with several groups."""
        if self.by_columns:
            logits = logits.transpose(3, 4)
        return logits[:, :, 0] if self.groups == 1 else logits

    def as_grid(self, codes: Tensor) -> Tensor:
        """The codes as (B, h, w) or (B, G, h, w) of type long; ValueError if not of this prior."""
        if self.groups == 1 and codes.dim() == 4 and codes.shape[1] == 1:
            codes = codes[:, 0]
        shape = [self.height, self.width]
        if self.groups > 1:
            shape = [self.groups, self.height, self.width]
        if codes.dim() != 1 + len(shape) or list(codes.shape)[1:] != shape:
            sides = "x".join([str(side) for side in shape])
            wanted = ", ".join([str(side) for side in shape])
            raise ValueError(
                f"codes have the shape {list(codes.shape)}, but this prior's grid is {sides}: "
                f"give (B, {wanted}), or train a prior for your grid"
            )
        codes = codes.long()
        # On other devices a look at the values would wait for the device in every step.
        if not torch.jit.is_scripting() and codes.device.type == "cpu" and codes.numel() > 0:
            low, high = torch.aminmax(codes)
            if low < 0 or high >= self.num_codes:
                raise ValueError(
                    f"codes reach from {int(low)} to {int(high)}, but this prior knows 0 to "
                    f"{self.num_codes - 1}: use the codes of the VQ-VAE that it was trained for"
                )
        return codes


class PixelCNNBlock(nn.Module):
    """One block of both stacks: (vertical, horizontal) features to the same, shapes unchanged.

    Args:
        channels: width of the vertical stack.
        horizontal_channels: width of the horizontal stack.
        dropout: probability of dropping a hidden unit, in training.
        condition_width: channels of the vector that shifts the block; 0 for none.
        late_width: channels of the late conditions, which follow in that vector; 0 for none.
    """

    def __init__(
        self,
        channels: int,
        horizontal_channels: int,
        dropout: float,
        condition_width: int = 0,
        late_width: int = 0,
    ) -> None:
        super().__init__()
        across = horizontal_channels
        self.vertical = nn.Conv2d(channels, channels, (2, 3), padding=(1, 1))
        self.vertical_out = nn.Conv2d(channels, channels, 1)
        self.horizontal = nn.Conv2d(across, across, (1, 2), padding=(0, 1))
        self.link = nn.Conv2d(channels, across, 1, bias=False)
        self.horizontal_out = nn.Conv2d(across, across, 1)
        self.widths = [channels, across]
        self.condition_widths = [condition_width, late_width]
        self.condition = nn.Linear(condition_width, channels + across) if condition_width else None
        self.late_condition = (
            nn.Linear(late_width, channels + across, bias=False) if late_width else None
        )
        if self.late_condition is not None:  # it begins by saying nothing
            nn.init.zeros_(self.late_condition.weight)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, vertical: Tensor, horizontal: Tensor, vector: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Step both stacks; each is (B, its C, rows, columns). The link reads the new vertical one.

        Args:
            vertical: features of the vertical stack.
            horizontal: features of the horizontal stack.
            vector: of the conditions, (B, condition_width + late_width).
        """
        down = self.vertical(vertical)[:, :, : vertical.shape[2]]
        right = self.horizontal(horizontal)[:, :, :, : horizontal.shape[3]]
        shifts = self.shifts(vector)
        if shifts is not None:
            down, right = down + shifts[0], right + shifts[1]
        vertical = vertical + self.vertical_out(self.dropout(self.activation(down)))
        hidden = self.activation(right + self.link(vertical))
        return vertical, horizontal + self.horizontal_out(self.dropout(hidden))

    def shifts(self, vector: Tensor | None) -> list[Tensor] | None:
        """What the conditions add to both stacks' hidden units: (B, C, 1, 1), if anything."""
        if self.condition is None or vector is None:
            return None
        shared, late = vector.split(self.condition_widths, dim=1)
        shift = self.condition(shared)
        if self.late_condition is not None:
            shift = shift + self.late_condition(late)
        return list(shift[:, :, None, None].split(self.widths, dim=1))


class ContextEncoder(nn.Module):
    """The slice before or the plan, at once and from all sides: it is known as a whole.

    Args:
        width: numbers at each position.
        channels: width of the vertical stack.
        horizontal_channels: width of the horizontal stack.
        hidden_channels: width of what is made of the context; None for that of the vertical stack.
    """

    def __init__(
        self,
        width: int,
        channels: int,
        horizontal_channels: int,
        hidden_channels: int | None = None,
    ) -> None:
        super().__init__()
        hidden = channels if hidden_channels is None else hidden_channels
        self.first = nn.Conv2d(width, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, channels + horizontal_channels, 1)
        self.widths = [channels, horizontal_channels]
        for parameter in self.out.parameters():  # it begins by saying nothing
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, known: Tensor) -> list[Tensor]:
        """Features for the vertical and the horizontal stack, (B, its C, rows, columns).

        Args:
            x: embedded codes or the plan, (B, width, rows, columns).
            known: (B, 1, rows, columns) bool; where not, the features are 0.
        """
        x = self.first(x)
        x = x + self.second(F.gelu(x))
        return list((self.out(F.gelu(x)) * known).split(self.widths, dim=1))


def _check(
    num_codes: int, grid: Sequence[int], channels: int, layers: int, dropout: float, scan: str
) -> None:
    if num_codes < 2:
        raise ValueError(f"num_codes is {num_codes}: a prior needs at least 2 codes")
    if len(grid) not in (2, 3) or min(grid) < 1:
        raise ValueError(f"grid is {tuple(grid)}: give two numbers of at least 1, (h, w), or three")
    if channels < 1 or layers < 1:
        raise ValueError(f"channels is {channels} and layers {layers}: both must be at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}: give a probability in [0, 1)")
    if scan not in SCANS:
        raise ValueError(f"scan is {scan}: choose {' or '.join(SCANS)}")
