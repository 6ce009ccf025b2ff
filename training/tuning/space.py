"""A search space: which fields of a settings model vary, within what bounds, and the points of it that are tried.

Points come from a scrambled Sobol sequence (Owen 1998), which covers the space more evenly than random draws. A point
depends on (space, seed, number) alone, so a search that is taken up again, or made longer, meets the same points.
Point 0 is the base itself: a search never ends with less than the settings it started from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from scipy.stats import qmc

from service.errors import InputError

Settings = TypeVar("Settings", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Range(_Frozen):
    """Numbers from `low` to `high`; whole ones where the field is whole."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    """`log` where a factor matters and not a difference: step sizes, temperatures."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if not self.low < self.high or (self.scale == "log" and self.low <= 0):
            raise ValueError("low has to be below high, and above 0 on a log scale")
        return self

    def at(self, share: float, *, whole: bool) -> float | int:
        """The value at `share` in [0, 1) of the range."""
        low, high = (self.low, self.high + 1) if whole else (self.low, self.high)
        if self.scale == "log":
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        return min(max(int(value), math.ceil(self.low)), int(self.high)) if whole else float(f"{value:.4g}")


class Choice(_Frozen):
    """One of some values."""

    values: tuple[int | float | str | bool, ...]

    def at(self, share: float, *, whole: bool) -> int | float | str | bool:
        """The value at `share` in [0, 1) of the list."""
        return self.values[int(share * len(self.values))]


Space = Mapping[str, Range | Choice]
"""Field -> what it may be."""


def point(space: Space, base: Settings, number: int, *, seed: int) -> Settings:
    """Settings number `number` of the search; 0 is `base`. Raises InputError where the model refuses them."""
    if number == 0:
        return base
    sequence = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(seed))
    if number > 1:
        sequence.fast_forward(number - 1)
    shares = sequence.random(1)[0]
    chosen = {
        field: axis.at(float(share), whole=type(base).model_fields[field].annotation is int)
        for (field, axis), share in zip(sorted(space.items()), shares, strict=True)
    }
    return _with(base, chosen)


def check_space(space: Space, base: BaseModel) -> None:
    """Raise InputError where a field is unknown, or where the model refuses an end of a field's range."""
    if not space:
        raise InputError("nothing varies", where="the search space", todo="Name at least one field")
    for field, axis in space.items():
        if field not in type(base).model_fields:
            known = ", ".join(sorted(type(base).model_fields))
            raise InputError("no such setting", where=f"search space, {field}", todo=f"There are {known}")
        ends = axis.values if isinstance(axis, Choice) else (axis.low, axis.high)
        for end in ends:
            _with(base, {field: end})


def read_space(path: Path) -> dict[str, Range | Choice]:
    """A space from a JSON file; InputError shows what one looks like."""
    try:
        return TypeAdapter(dict[str, Range | Choice]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        todo = 'Write it like {"temperature": {"low": 0.1, "high": 0.3, "scale": "log"}, "heads": {"values": [4, 8]}}'
        raise InputError(f"not a search space: {what}", where=str(path), todo=todo) from error


def read_settings(path: Path, model: type[Settings]) -> Settings:
    """Settings from a JSON file, such as the `best.json` of a search. Raises InputError naming the field."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(str(error), where=str(path), todo="Check the path") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            first["msg"], where=f"{path}, {field}" if field else str(path), todo=f"It takes {model.__name__}'s fields"
        ) from error


def _with(base: Settings, changed: Mapping[str, object]) -> Settings:
    try:
        return type(base).model_validate(json.loads(base.model_dump_json()) | changed)
    except ValidationError as error:
        first = error.errors()[0]
        where = "search space, " + ".".join(str(part) for part in first["loc"])
        raise InputError(f"{first['msg']}, got {first['input']!r}", where=where, todo="Narrow the space") from error
