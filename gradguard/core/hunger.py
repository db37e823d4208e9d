"""How often losses have missed the models that they must train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gradguard.core.findings import UNKNOWN_PLACE, Place

__all__ = ["Hunger", "Hungers"]

AGAIN_AFTER = 10
"""A loss that has reached a model before is starved only after so many misses in a row."""


@dataclass(slots=True)
class Hunger:
    """How often a loss has missed a model that it must train.

    Attributes:
        misses: How often in a row.
        judged: True once the pair was seen to be fed, or was found starved.
        pending: True if the next step of the model asks for a judgement.
        place: Where the loss last ran backward without reaching the model.
    """

    misses: int = 0
    judged: bool = False
    pending: bool = False
    place: Place = UNKNOWN_PLACE

    def feed(self) -> None:
        """Take note that the loss has reached the model, or that its misses were judged."""
        self.misses, self.judged, self.pending = 0, True, False

    def miss(self, place: Place) -> None:
        """Take note that the loss has missed the model."""
        self.misses += 1
        self.place = place
        self.pending = not self.judged or self.misses >= AGAIN_AFTER


class Hungers:
    """The hunger of every pair of loss and model."""

    def __init__(self) -> None:
        """Begin with nobody hungry."""
        self._of: dict[tuple[str, str], Hunger] = {}

    def of(self, loss: str, model: str) -> Hunger:
        """Return the hunger of a pair, which begins where it is first asked for."""
        hunger = self._of.get((loss, model))
        if hunger is None:
            hunger = self._of[loss, model] = Hunger()
        return hunger

    @property
    def pending(self) -> bool:
        """True if some step may ask for a judgement."""
        return any(hunger.pending for hunger in self._of.values())

    def waiting(self) -> Iterator[tuple[str, str, Hunger]]:
        """Iterate over the pairs that ask for a judgement, each when it is come to."""
        for (loss, model), hunger in self._of.items():
            if hunger.pending:
                yield loss, model, hunger

    def settle(self, loss: str, hunger: Hunger) -> None:
        """Take note that a pair was judged.

        A loss that has reached nothing that it must train is one finding, not several.
        """
        of_loss = [other for (name, _), other in self._of.items() if name == loss]
        for other in of_loss if all(other.misses for other in of_loss) else (hunger,):
            other.feed()
