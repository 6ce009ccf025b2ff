"""Points of a search: inside the bounds, even, the same every time."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import InputError
from training.fit_settings import FitSettings
from training.tuning.gat_space import GAT_SPACE
from training.tuning.space import Choice, Range, check_space, point, read_settings, read_space


def test_the_gats_space_is_one_of_its_settings() -> None:
    check_space(GAT_SPACE, FitSettings())


@settings(deadline=None, max_examples=50)
@given(number=st.integers(1, 200), seed=st.integers(0, 2**31))
def test_every_point_is_inside_the_bounds_and_the_same_again(number: int, seed: int) -> None:
    found = point(GAT_SPACE, FitSettings(), number, seed=seed)
    assert found == point(GAT_SPACE, FitSettings(), number, seed=seed)
    for field, axis in GAT_SPACE.items():
        value = getattr(found, field)
        assert value in axis.values if isinstance(axis, Choice) else axis.low <= value <= axis.high
    untouched = FitSettings.model_fields.keys() - GAT_SPACE.keys()
    assert all(getattr(found, field) == getattr(FitSettings(), field) for field in untouched)


def test_the_first_point_is_what_the_search_starts_from() -> None:
    base = FitSettings(width=47, learning_rate=0.5)
    assert point(GAT_SPACE, base, 0, seed=3) == base


def test_points_cover_each_range_evenly() -> None:
    space = {"temperature": Range(low=0.1, high=0.4, scale="log"), "heads": Choice(values=(2, 4, 8, 16))}
    points = [point(space, FitSettings(), number, seed=0) for number in range(1, 65)]
    quarters = np.log([p.temperature / 0.1 for p in points]) / np.log(4) * 4
    assert np.bincount(quarters.astype(int), minlength=4).tolist() == [16] * 4
    assert np.bincount([p.heads for p in points])[[2, 4, 8, 16]].tolist() == [16] * 4


@settings(deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), low=st.integers(1, 50), width=st.integers(1, 50))
def test_whole_numbers_stay_whole_and_inside(share: float, low: int, width: int) -> None:
    for scale in ("linear", "log"):
        value = Range(low=low, high=low + width, scale=scale).at(share, whole=True)
        assert isinstance(value, int)
        assert low <= value <= low + width


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"warmth": Range(low=0, high=1)}, "warmth: no such setting"),
        ({"hidden_share": Range(low=0.1, high=1.5)}, r"hidden_share: .*less than 1, got 1\.5"),
        ({"heads": Choice(values=("many",))}, "heads: .*integer"),
        ({}, "nothing varies"),
    ],
)
def test_a_space_that_the_settings_refuse_is_an_error(space: dict[str, Range | Choice], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_space(space, FitSettings())


@pytest.mark.parametrize("bounds", [(1, 1, "linear"), (2, 1, "linear"), (0, 1, "log")])
def test_an_empty_range_is_refused(bounds: tuple[float, float, str]) -> None:
    with pytest.raises(ValidationError, match="low has to be below high"):
        Range(low=bounds[0], high=bounds[1], scale=bounds[2])


def test_a_space_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    path.write_text('{"temperature": {"low": 0.1, "high": 0.3, "scale": "log"}, "heads": {"values": [4, 8]}}')
    assert read_space(path) == {"temperature": Range(low=0.1, high=0.3, scale="log"), "heads": Choice(values=(4, 8))}
    path.write_text('{"temperature": {"from": 0.1}}')
    with pytest.raises(InputError, match="not a search space"):
        read_space(path)
    with pytest.raises(InputError, match="No such file"):
        read_space(tmp_path / "absent.json")


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text(FitSettings(width=63).model_dump_json())
    assert read_settings(path, FitSettings) == FitSettings(width=63)
    path.write_text(json.dumps({"width": 2}))
    with pytest.raises(InputError, match=r"best\.json, width: "):
        read_settings(path, FitSettings)
    with pytest.raises(InputError, match="No such file"):
        read_settings(tmp_path / "absent.json", FitSettings)
