"""What a search is taken up from."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from service.errors import DataError, InputError
from training.evaluation.result import Epoch
from training.tuning.halving import Halving
from training.tuning.records import Records, Trial


class Identity(BaseModel):
    data: str


def curve(*recalls: float) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(epoch=n, loss=1.0, validation_recall_at_20=recall, seconds=0.1) for n, recall in enumerate(recalls, 1)
    )


def test_trials_are_read_as_they_were_written_by_number(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for number in (10, 2):
        records.write(Trial(number=number, settings={"dim": number}, curve=curve(0.1, 0.2)))
    assert [trial.number for trial in records.read_all()] == [2, 10]
    assert records.read(2) == Trial(number=2, settings={"dim": 2}, curve=curve(0.1, 0.2))
    assert records.read(3) is None


def test_the_best_epoch_is_the_first_of_equals() -> None:
    assert Trial(number=0, settings={}, curve=curve(0.1, 0.3, 0.3)).best.epoch == 2
    assert Trial(number=0, settings={}).best is None


def test_a_record_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "0.json").write_text("{")
    with pytest.raises(DataError, match=r"0\.json"):
        Records(tmp_path).read_all()


def test_a_folder_holds_one_search(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.claim(Identity(data="a"))
    records.claim(Identity(data="a"))
    with pytest.raises(InputError, match="other data"):
        records.claim(Identity(data="b"))


def test_halving_lets_the_best_third_go_on_at_each_rung() -> None:
    halving = Halving(first=2, reduction=3)
    others = [Trial(number=n, settings={}, curve=curve(0.0, n / 10, 0.9)) for n in range(9)]
    assert not halving.stops(curve(0.0), 9, others)  # no rung
    assert halving.stops(curve(0.0, 0.35), 9, others)
    assert not halving.stops(curve(0.0, 0.65), 9, others)
    assert not halving.stops(curve(0.0, 0.35, 0.1), 9, others)
    rung_six = [Trial(number=0, settings={}, curve=curve(*[0.5] * 6))]
    assert halving.stops(curve(*[0.4] * 6), 1, rung_six)


def test_the_first_trial_to_come_that_far_goes_on() -> None:
    halving = Halving(first=2, reduction=3)
    assert not halving.stops(curve(0.0, 0.0), 0, [Trial(number=0, settings={}, curve=curve(0.9, 0.9))])


def test_a_reduction_of_one_stops_nothing() -> None:
    assert not Halving(first=1, reduction=1).stops(curve(0.0), 1, [Trial(number=0, settings={}, curve=curve(0.9))])
