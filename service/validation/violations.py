"""What is wrong with a request, field by field."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.errors import InvalidQueryError, PlotPointeError, UnknownItemError

MOST_NAMED = 20
"""Violations that an error names; of a list of a thousand wrong entries the first tell enough."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request and what is wrong with it."""

    field: str
    """Its path, for example `rules.boost[0].strength`."""
    message: str


class InvalidFieldsError(InvalidQueryError):
    """A request breaks the contract in one field or several; all of them are named at once."""

    def __init__(self, *violations: FieldViolation, unnamed: int = 0) -> None:
        what = "; ".join(violation.message for violation in violations)
        super().__init__(
            f"{what}; and {unnamed} more" if unnamed else what,
            where=", ".join(violation.field for violation in violations),
        )
        self.violations = violations


@dataclass(slots=True)
class Faults:
    """Gathers violations while a request is read, so that the caller hears of all of them at once."""

    named: list[FieldViolation] = field(default_factory=list)
    unnamed: int = 0
    """How many more there are than MOST_NAMED."""

    def add(self, path: str, message: str) -> None:
        """`message` follows the path in the sentence: `must be a whole number from 1 to 200`."""
        self.add_sentence(path, f"{path} {message}")

    def add_sentence(self, path: str, sentence: str) -> None:
        """A violation in words of its own."""
        if len(self.named) < MOST_NAMED:
            self.named.append(FieldViolation(path, sentence))
        else:
            self.unnamed += 1

    @property
    def full(self) -> bool:
        """Whether further violations are only counted."""
        return len(self.named) >= MOST_NAMED

    def check(self) -> None:
        """Raise InvalidFieldsError where anything was wrong."""
        if self.named:
            raise InvalidFieldsError(*self.named, unnamed=self.unnamed)


def violations_of(error: PlotPointeError) -> tuple[FieldViolation, ...]:
    """The fields at fault, as far as the error knows them."""
    if isinstance(error, InvalidFieldsError):
        return error.violations
    if isinstance(error, InvalidQueryError | UnknownItemError) and error.where:
        return (FieldViolation(error.where, error.what),)
    return ()


def detail_of(error: PlotPointeError) -> str:
    """The error in words; without the place where the violations name it already."""
    return error.what if violations_of(error) else str(error)
