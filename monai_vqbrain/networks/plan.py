"""The plan of a volume: a blurred version of it, drawn before its codes."""

# No postponed annotations here: TorchScript must see the buffer's type as a type.

import math
from collections.abc import Sequence

import torch
from monai.networks.layers import GaussianFilter
from torch import Tensor, nn

from monai_vqbrain.networks.conditions import Known

LEVELS = 16  # heights at which a volume is described
SMOOTHING = 20  # a slice's sides to the standard deviation of the blurring of principal components
PARTICIPANTS = 15  # per component
EXPLAINED = 40  # participants per component of what conditions explain
EMPHASIS = 3.0  # of what conditions explain, relative to volumes
RIDGE = 1.0  # takes effects back where participants are few
NOTHING = 1e-6  # relative to the mean: a change that is none


def number_of_components(most: int, participants: int) -> int:
    """The number of components of a plan for a number of participants; 0: no plan."""
    return min(most, participants // PARTICIPANTS)


class VolumePlan(nn.Module):
    """Blurred volumes of a cohort as a linear Gaussian model, given participants' conditions.

    A plan is the cohort's mean plus a few components of what differs from it. Their coefficients
    are linear in the participant's conditions, so that ages and groups differ in plans as they
    differ on average in the cohort. The first components are what single conditions explain, so
    that a plan can show it, one per 40 participants. Conditions determine their coefficients, and
    they are emphasised, so that a prior can distinguish them from the others. The others are
    principal components of the remainder, blurred; their coefficients have a Gaussian remainder of
    their own. There is one component per 15 participants in all: with more, and finer ones, a
    volume's distance from the space of plans would tell whether its participant was trained on.

    With fewer than 40 participants even two principal components would tell. Instead there are
    tangent vectors of the mean: what a change of its in-plane size does to it and, from 30
    participants on, a shift across slices. They describe volumes of new participants as well as
    those of training participants.

    Before `fit` there is no plan: `fitted` is False.

    Args:
        components: K, how many components at most.
        grid: (h, w) of a slice's plan: that of its codes.
        known: the prior's conditions, see ConditionEncoder.
        described: names of those that describe a participant.
        position: name of the one that is the slice's position; its range is that of the levels.

    Raises:
        ValueError: if the position is no numeric condition.

    Source:
        Cootes, Edwards and Taylor, "Active Appearance Models" (1998), for the linear model of
        images; van den Wollenberg, "Redundancy analysis" (1977), for the components of what
        conditions explain; Simard, LeCun, Denker and Victorri, "Transformation Invariance in
        Pattern Recognition: Tangent Distance and Tangent Propagation" (1998), for tangent vectors;
        Tipping and Bishop, "Probabilistic Principal Component Analysis" (1999).

    Example:
        >>> known = {"age": [50.0, 90.0], "position_rel": [0.0, 1.0]}
        >>> plan = VolumePlan(2, (4, 6), known, ["age"], "position_rel")
        >>> rows = torch.tensor([[60.0, 0.5], [80.0, 0.5], [70.0, 0.5]])
        >>> plan.fit(torch.rand(30, LEVELS, 4, 6), rows.repeat(10, 1), 30)
        >>> plan.draw(rows, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 4, 6])
    """

    mean: Tensor  # (LEVELS, h, w)
    components: Tensor  # (K, LEVELS, h, w)
    effects: Tensor  # (D, K): of the participant's conditions on the coefficients
    centre: Tensor  # (D,): means of the conditions
    spread: Tensor  # (K, K): a matrix square root of the covariance of the remainder
    scale: Tensor  # (1,): standard deviation of intensities

    def __init__(
        self,
        components: int,
        grid: Sequence[int],
        known: Known,
        described: Sequence[str],
        position: str,
    ) -> None:
        super().__init__()
        names = list(known)
        if position not in names or isinstance(known[position][0], str):
            raise ValueError(f"the position of a plan must be a numeric condition, got {position}")
        self.column = names.index(position)
        self.low, self.high = (float(end) for end in known[position])
        # (column, number of values) of each category, (column, -1) of each number
        self.described: list[tuple[int, int]] = [
            (names.index(n), len(known[n]) if isinstance(known[n][0], str) else -1)
            for n in described
        ]
        self.ranges: list[tuple[float, float]] = [
            (0.0, 1.0) if count > 0 else (float(known[n][0]), float(known[n][1]))
            for n, (_, count) in zip(described, self.described, strict=True)
        ]
        width = sum(max(1, count) for _, count in self.described)
        shape = (LEVELS, *(int(side) for side in grid))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("components", torch.zeros(components, *shape))
        self.register_buffer("effects", torch.zeros(width, components))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.zeros(components, components))
        self.register_buffer("scale", torch.zeros(1))

    @property
    def fitted(self) -> bool:
        """Whether there is a plan."""
        return bool(self.scale > 0)

    @torch.jit.unused
    def fit(self, volumes: Tensor, rows: Tensor, participants: int) -> None:
        """Fit mean, components, effects and remainder.

        Args:
            volumes: (M, LEVELS, h, w), blurred, of training participants.
            rows: (M, C), their conditions, NaN for missing.
            participants: how many the volumes are of.

        Raises:
            ValueError: if there are fewer than 15 participants, or all volumes are equal.
        """
        flat = volumes.double().flatten(1)
        number = number_of_components(len(self.components), participants)
        if number < 1:
            raise ValueError(
                f"a plan needs at least {PARTICIPANTS} participants, got {participants}"
            )
        differences = flat - flat.mean(0)
        if not differences.any():
            raise ValueError(f"a plan needs volumes that differ, got {len(flat)} of one kind")
        given = self._described(rows.double())
        centre = given.nanmean(0).nan_to_num()
        given = (given - centre).nan_to_num()
        most = min(number, participants // EXPLAINED)
        explained = self._explained(given, differences)[:most]
        explained_effects = _ridge(given, differences @ explained.T)
        rest = differences - given @ explained_effects @ explained
        if participants < EXPLAINED:
            directions = _tangents(flat.mean(0).view_as(volumes[0]))
        else:
            directions = _directions(_blurred(rest.view_as(volumes)).flatten(1))
        others = directions[: number - len(explained)]
        number = len(explained) + len(others)
        found = rest @ others.T
        effects = _ridge(given, found)
        remainder = found - given @ effects
        free = max(1, len(flat) - 1 - _rank(given))
        values, vectors = torch.linalg.eigh(remainder.T @ remainder / free)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        first = len(explained)
        self.mean.copy_(flat.mean(0).view_as(self.mean))
        self.components.zero_()
        both = torch.cat((explained, others))
        self.components[:number] = both.view_as(self.components[:number])
        self.effects.zero_()
        self.effects[:, :number] = torch.cat((EMPHASIS * explained_effects, effects), dim=1)
        self.centre.copy_(centre)
        self.spread.zero_()
        self.spread[first:number, first:number] = root
        self.scale.fill_(float(flat.std()))

    @torch.jit.unused
    def coefficients(self, volumes: Tensor, rows: Tensor) -> Tensor:
        """Those of blurred volumes (M, LEVELS, h, w) of given conditions (M, C): (M, K)."""
        expected, flat = self._expected(rows), self.components.flatten(1)
        own = self.spread.any(1)  # which have a remainder
        explained = expected.masked_fill(own, 0) / EMPHASIS @ flat
        rest = (volumes - self.mean).flatten(1) - explained
        return torch.where(own, rest @ flat.T, expected)

    @torch.jit.unused
    def residuals(self, volumes: Tensor) -> Tensor:
        """The part of each volume's difference from the mean that no plan has, (M,), 0 to 1.

        What an attack on membership reads: it is low for volumes that the plan was fitted to.
        """
        flat = self.components.flatten(1)
        basis = torch.linalg.qr(flat[flat.any(1)].T)[0]  # those of conditions overlap the others
        differences = (volumes - self.mean).flatten(1)
        return 1 - (differences @ basis).square().sum(1) / differences.square().sum(1)

    def _explained(self, given: Tensor, differences: Tensor) -> Tensor:
        """Directions of what each condition explains, (rank, P), the strongest condition first."""
        found: list[tuple[float, Tensor]] = []
        for part in given.split([max(1, count) for _, count in self.described], dim=1):
            if rank := _rank(part):
                fitted = part @ _ridge(part, differences)
                found.append((float(fitted.square().sum()) / rank, _directions(fitted)[:rank]))
        found.sort(key=lambda one: -one[0])
        directions = differences[:0]
        for _, one in found:
            rest = one - one @ directions.T @ directions
            directions = torch.cat((directions, _directions(rest)))
        return directions

    @torch.jit.unused
    def draw(
        self,
        rows: Tensor,
        generator: torch.Generator,
        base: Tensor | None = None,
        guidance: float = 1.0,
    ) -> Tensor:
        """Draw plans, one per participant.

        Args:
            rows: (B, C) conditions of one slice each, or (B, S, C) of the slices of volumes.
            generator: the source of randomness, on any device.
            base: conditions that guidance goes from, as `rows`; by default all are missing.
            guidance: how far to go from the base's effects (0) to those of the rows (1), or beyond.

        Returns:
            (B, h, w) or (B, S, h, w), as `at` gives them.
        """
        first = rows if rows.ndim == 2 else rows[:, 0]
        noise = torch.randn(
            (len(first), len(self.spread)), generator=generator, device=generator.device
        )
        asked = self._expected(first)
        if guidance != 1:
            start = torch.zeros_like(asked)
            if base is not None:
                start = self._expected(base if base.ndim == 2 else base[:, 0])
            asked = start + guidance * (asked - start)
        coefficients = asked + noise.to(asked) @ self.spread
        return self.at(coefficients, rows[..., self.column])

    @torch.jit.unused
    def at(self, coefficients: Tensor, positions: Tensor) -> Tensor:
        """The plans of slices.

        Args:
            coefficients: (B, K).
            positions: of slices, (B,), or (B, S) for several of each volume; NaN for unknown.

        Returns:
            (B, h, w) or (B, S, h, w), of mean about 0 and standard deviation about 1; NaN where the
            position is unknown.
        """
        one = positions.ndim == 1
        places = positions[:, None] if one else positions
        level = (places - self.low) / (self.high - self.low) * (LEVELS - 1)
        level = level.clamp(0, LEVELS - 1).to(coefficients)
        below = level.nan_to_num().floor().clamp(max=LEVELS - 2).long()
        part = level - below  # NaN where the position is
        weights = torch.zeros(*places.shape, LEVELS).to(coefficients)
        weights.scatter_(-1, below[..., None], (1 - part)[..., None])
        weights.scatter_(-1, below[..., None] + 1, part[..., None])
        unknown = places.isnan()[..., None, None]
        volumes = self.mean + torch.einsum("bk,klhw->blhw", coefficients, self.components)
        slices = torch.einsum("bsl,blhw->bshw", weights.nan_to_num(), volumes)
        slices = (slices - self.mean.mean()) / self.scale
        slices = slices.masked_fill(unknown, math.nan)
        return slices[:, 0] if one else slices

    def _expected(self, rows: Tensor) -> Tensor:
        """The expected coefficients (B, K) of participants; missing conditions say nothing."""
        given = self._described(rows.to(self.effects.dtype)) - self.centre
        return given.nan_to_num() @ self.effects

    def _described(self, rows: Tensor) -> Tensor:
        """Conditions (B, C) as (B, D): a 1 in the place of a category, ranges from -1 to 1."""
        parts: list[Tensor] = []
        for (column, count), (low, high) in zip(self.described, self.ranges, strict=True):
            values = rows[:, column, None]
            if count > 0:
                ones = (values == torch.arange(count, device=rows.device)).to(rows.dtype)
                parts.append(ones.masked_fill(values.isnan(), math.nan))
            else:
                parts.append(2 * (values - low) / (high - low) - 1)
        return torch.cat(parts, dim=1) if parts else rows.new_zeros(len(rows), 0)


def _tangents(mean: Tensor) -> Tensor:
    """Unit vectors (2, P): the mean (LEVELS, h, w) grows within slices; it moves up the levels.

    They are orthogonal. One of which nothing is left is missing, such as the second if all levels
    are equal.
    """
    up, along_rows, along_columns = (_derivative(mean, axis) for axis in range(3))
    places = (torch.arange(side).to(mean) for side in mean.shape[1:])
    y, x = torch.meshgrid(*places, indexing="ij")
    y, x = (place - (place * mean).sum() / mean.sum() for place in (y, x))  # from the centre
    found = mean.new_zeros(0, mean.numel())
    for change in (-(along_rows * y + along_columns * x), -up):
        rest = change.flatten()
        rest = rest - rest @ found.T @ found
        if rest.norm() > NOTHING * mean.norm():
            found = torch.cat((found, rest[None] / rest.norm()))
    return found


def _derivative(volume: Tensor, axis: int) -> Tensor:
    """Along an axis, per index; 0 along an axis of length 1."""
    if volume.shape[axis] == 1:
        return torch.zeros_like(volume)
    found: Tensor = torch.gradient(volume, dim=axis)[0]
    return found


def _blurred(volumes: Tensor) -> Tensor:
    """Volumes (M, LEVELS, h, w), their slices blurred, see SMOOTHING."""
    blur = GaussianFilter(2, [side / SMOOTHING for side in volumes.shape[2:]]).to(volumes)
    smooth: Tensor = blur(volumes)
    return smooth


def _directions(values: Tensor) -> Tensor:
    """The principal directions of rows about 0, the first first: (min(M, P), P)."""
    found: Tensor = torch.linalg.svd(values, full_matrices=False)[2]
    return found


def _ridge(given: Tensor, values: Tensor) -> Tensor:
    """Coefficients (D, P) of a ridge regression of values (M, P) on what is given, (M, D)."""
    gram = given.T @ given + RIDGE * torch.eye(given.shape[1], dtype=given.dtype)
    return torch.linalg.solve(gram, given.T @ values)


def _rank(given: Tensor) -> int:
    return int(torch.linalg.matrix_rank(given)) if given.shape[1] else 0
