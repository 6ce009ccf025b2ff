"""What is known of each trial of a search, on disk, written by the one process that runs the search.

    <folder>/search.json            what the search is over; another search does not mix with it
    <folder>/trials/<n>.json        settings, curve and state of trial n, after each of its epochs
    <folder>/trials/<n>/            the trial's own: checkpoints of its fit

This, and not Ray's own snapshot, is what a search is taken up from: Ray writes its snapshot every so often, as pickles
of its own version, and leaves the scheduler's comparisons out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import DataError, InputError
from training.evaluation.result import Epoch
from training.files import write_whole

State = Literal["running", "finished", "stopped", "failed"]
"""`stopped`: fell behind the others. What is `running` or `failed` is tried again by the next call."""


class Trial(BaseModel):
    """One point of the search and how it went."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    settings: dict[str, object]
    state: State = "running"
    curve: tuple[Epoch, ...] = ()
    error: str = ""

    @property
    def best(self) -> Epoch | None:
        """The epoch with the best validation recall@20, the first of equals; None before there is one."""
        judged = [epoch for epoch in self.curve if epoch.validation_recall_at_20 is not None]
        return max(judged, key=lambda epoch: epoch.validation_recall_at_20 or 0.0, default=None)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state in ("finished", "stopped")


class Records:
    """The trials of one search."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, identity: BaseModel) -> None:
        """Make the folder this search's. Raises InputError where it holds another's trials."""
        path, text = self.folder / "search.json", identity.model_dump_json(indent=1)
        if path.exists() and path.read_text() != text:
            raise InputError(
                "holds a search over other data, settings or bounds",
                where=str(self.folder),
                todo="Delete the folder to search anew",
            )
        write_whole(path, text)

    def read(self, number: int) -> Trial | None:
        """Trial `number`, or None where it never started."""
        path = self._path(number)
        try:
            return Trial.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DataError("not a trial's record", where=str(path), todo="Delete the file") from error

    def read_all(self) -> list[Trial]:
        """Every trial that started, by number."""
        numbers = sorted(int(path.stem) for path in (self.folder / "trials").glob("*.json"))
        return [trial for number in numbers if (trial := self.read(number)) is not None]

    def write(self, trial: Trial) -> None:
        """Keep a trial, in one rename."""
        write_whole(self._path(trial.number), trial.model_dump_json(indent=1))

    def scratch(self, number: int) -> Path:
        """The trial's own folder."""
        return self.folder / "trials" / str(number)

    def _path(self, number: int) -> Path:
        return self.folder / "trials" / f"{number}.json"
