"""State of the streaming user encoder: softmax sums that support addition, removal and merging in constant time.

Each latent query keeps what a softmax over the whole history needs: a reference for the exponents, the denominator and
the numerator. The reference is the maximum logit rounded up to a power of two, so that rescaling is exact, and each
sum is kept as two float32 numbers (Knuth's two-sum), so that the result does not depend on the order of the events.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from palate.errors import DataError
from palate.system.files import write_bytes
from palate.system.records import tensor_metadata

FORMAT = "palate-user-state-1"
NOTHING = -(2**30)
"""Exponent of a query without events."""
LOWEST = -(2.0**24)
"""Logits are clamped to this and its negative, in powers of two."""
LEAST_LEFT = 2.0**-6
"""Minimum fraction of a query's largest weight that must remain. Removing an event leaves about a millionth of its
weight behind, because the weight is recomputed; below this fraction that error becomes visible."""


@dataclass(frozen=True, eq=False)
class UserState:
    """Pooled histories of B users in Q latent queries of V values each; its size does not depend on P.

    Column 0 of the sums is the denominator, the sum of the weights; the other V are the numerator. All sums are in
    units of 2**exponent.
    """

    exponent: Tensor  # [B, Q] int32: the maximum logit in powers of two, rounded up
    sums: Tensor  # [B, Q, 1 + V] float32
    rest: Tensor  # [B, Q, 1 + V] float32: rounding errors of the sums
    peak: Tensor  # [B, Q] float32: log2 of the largest denominator since the state was built
    count: Tensor  # [B] int64: events that were read
    newest: Tensor  # [B] float64: time of the newest one, in days since 1970; -inf where there is none

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, users: slice | Tensor) -> UserState:
        """Select users; the result is a batch."""
        return UserState(*(getattr(self, column.name)[users] for column in fields(self)))

    @classmethod
    def joined(cls, states: Sequence[UserState]) -> UserState:
        """Join states into one batch."""
        columns = (torch.cat([getattr(one, column.name) for one in states]) for column in fields(cls))
        return cls(*columns)

    def each(self) -> list[UserState]:
        """Return the state of each user, as batches of one."""
        return [self[row : row + 1] for row in range(len(self))]

    @classmethod
    def empty(cls, users: int, queries: int, values: int, device: torch.device | str = "cpu") -> UserState:
        """Create the state of users without a history."""
        sums = torch.zeros(users, queries, 1 + values, device=device)
        return cls(
            exponent=torch.full((users, queries), NOTHING, dtype=torch.int32, device=device),
            sums=sums,
            rest=torch.zeros_like(sums),
            peak=torch.full((users, queries), -math.inf, device=device),
            count=torch.zeros(users, dtype=torch.int64, device=device),
            newest=torch.full((users,), -math.inf, dtype=torch.float64, device=device),
        )

    @classmethod
    def of(cls, logits: Tensor, values: Tensor, mask: Tensor, time: Tensor) -> UserState:
        """Create the state of a batch of events.

        Args:
            logits: Logits of the events, [B, P, Q]; float64 if they contain times.
            values: Values to average, [B, P, V].
            mask: True at events, False at padding, [B, P].
            time: Days since 1970, [B, P].

        Returns:
            The state of each user.
        """
        powers = (logits / math.log(2)).clamp(LOWEST, -LOWEST).masked_fill(~mask[..., None], -math.inf)
        highest = powers.detach().amax(dim=1).ceil()  # [B, Q]
        exponent = torch.where(highest.isfinite(), highest, NOTHING)
        weights = torch.exp2(powers - exponent[:, None]).to(values.dtype)  # [B, P, Q]
        denominator = weights.sum(dim=1)[..., None]
        sums = torch.cat([denominator, weights.transpose(1, 2) @ values], dim=-1)
        exponent = exponent.to(torch.int32)
        return cls(
            exponent=exponent,
            sums=sums,
            rest=torch.zeros_like(sums),
            peak=_log_weight(exponent, sums),
            count=mask.sum(dim=1),
            newest=time.masked_fill(~mask, -math.inf).amax(dim=1),
        )

    def merge(self, other: UserState) -> UserState:
        """Combine the states of two parts of a history; the result is the same for any split of it."""
        exponent, sums, rest = self._plus(other, 1)
        peak = torch.maximum(torch.maximum(self.peak, other.peak), _log_weight(exponent, sums))
        newest = torch.maximum(self.newest, other.newest)
        return UserState(exponent, sums, rest, peak, self.count + other.count, newest)

    def replaced(self, rows: Tensor, others: UserState) -> UserState:
        """Replace the states in some rows [B']."""
        return UserState(
            *(getattr(self, c.name).index_copy(0, rows, getattr(others, c.name)) for c in fields(self))
        )

    def without(self, other: UserState) -> UserState:
        """Remove the events of another state, which this one must contain; see :meth:`blurred`."""
        exponent, sums, rest = self._plus(other, -1)
        left = UserState(exponent, sums, rest, self.peak, self.count - other.count, self.newest)
        emptied = (left.count == 0).nonzero().flatten()
        queries, values = sums.shape[1], sums.shape[2] - 1
        return left.replaced(emptied, UserState.empty(len(emptied), queries, values, sums.device))

    def blurred(self, floor: Tensor) -> Tensor:
        """Detect states whose rounding errors are significant after removals, [B].

        Args:
            floor: log2 of the constant weight that is added to the history's, [B, Q].

        Returns:
            True for the users whose state must be rebuilt, [B].
        """
        left = torch.logaddexp2(_log_weight(self.exponent, self.sums), floor)
        return ((left < self.peak + math.log2(LEAST_LEFT)) & (self.count > 0)[:, None]).any(dim=1)

    def to_bytes(self, reader: str) -> bytes:
        """Serialise to safetensors; ``reader`` identifies the weights that the sums were computed with."""
        columns = {column.name: getattr(self, column.name).cpu().contiguous() for column in fields(self)}
        return save(columns, metadata={"format": FORMAT, "reader": reader})

    def save(self, path: Path, reader: str) -> None:
        """Write :meth:`to_bytes` to a file atomically."""
        write_bytes(path, self.to_bytes(reader))

    @classmethod
    def load(cls, path: Path, reader: str, like: UserState) -> UserState:
        """Read a file of :meth:`save`.

        Args:
            path: The file.
            reader: Identity of the weights that the sums must have been computed with.
            like: A state with the expected sizes.

        Returns:
            The state.

        Raises:
            DataError: The file is damaged, or was written with other weights.
        """
        try:
            return cls.from_bytes(Path(path).read_bytes(), reader, like, path)
        except OSError as error:
            raise DataError(f"not a user state ({error}); build it from the stored events", path) from error

    @classmethod
    def from_bytes(cls, data: bytes, reader: str, like: UserState, path: Path | None = None) -> UserState:
        """Deserialise the result of :meth:`to_bytes`, like :meth:`load`; ``path`` is named in errors."""
        try:
            columns = load(data)
            made = tensor_metadata(data)
        except (SafetensorError, ValueError) as error:
            raise DataError(f"not a user state ({error}); build it from the stored events", path) from error
        if made.get("format") != FORMAT or made.get("reader") != reader:
            raise DataError(
                "the state was computed with other weights of the user encoder; rebuild it from the stored events",
                path,
            )
        _check(columns, like, path)
        return cls(**{name: tensor.to(like.sums.device) for name, tensor in columns.items()})

    def _plus(self, other: UserState, sign: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return exponent, sums and rest of this state plus ``sign`` times another."""
        exponent = torch.maximum(self.exponent, other.exponent)
        (mine, my_rest), (its, its_rest) = self._in_units_of(exponent), other._in_units_of(exponent)
        return exponent, *_two_sum(mine, sign * its, my_rest + sign * its_rest)

    def _in_units_of(self, exponent: Tensor) -> tuple[Tensor, Tensor]:
        """Rescale sums and rest exactly to units that are not smaller."""
        shift = (self.exponent - exponent).clamp(min=-300)[..., None]
        return torch.ldexp(self.sums, shift), torch.ldexp(self.rest, shift)


def _two_sum(first: Tensor, second: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rounded sum and its rounding error."""
    total = first + second
    shadow = total - first
    lost = (first - (total - shadow)) + (second - shadow) + rest
    rounded = total + lost
    return rounded, lost - (rounded - total)


def _log_weight(exponent: Tensor, sums: Tensor) -> Tensor:
    """Compute log2 of the denominators, [B, Q]."""
    return exponent + sums.detach()[..., 0].clamp(min=0).log2()


def _check(columns: dict[str, Tensor], like: UserState, path: Path | None) -> None:
    users = {len(tensor) if tensor.dim() else 0 for tensor in columns.values()}
    finite = all(columns[name].isfinite().all() for name in ("sums", "rest") if name in columns)
    for column in fields(like):
        tensor, expected = columns.get(column.name), getattr(like, column.name)
        if tensor is None or tensor.dtype != expected.dtype or tensor.shape[1:] != expected.shape[1:]:
            raise DataError(
                f"{column.name} is not {expected.dtype} [B, {', '.join(map(str, expected.shape[1:]))}]; "
                "rebuild the state from the stored events",
                path,
            )
    if len(users) != 1 or len(columns) != len(fields(like)) or not finite:
        raise DataError("the columns are inconsistent; rebuild the state from the stored events", path)
