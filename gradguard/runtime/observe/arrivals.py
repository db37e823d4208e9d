"""Which of the parameters that a graph shows really receive gradient, seen once a passage."""

from __future__ import annotations

from torch import Tensor

from gradguard.runtime.monitor import Pass
from gradguard.runtime.observe.census import Census, bits
from gradguard.runtime.observe.passages import Passage
from gradguard.runtime.proof import Vault, can_set_aside, has_value

__all__ = ["Arrivals"]


class Arrivals:
    """A close look at one backward pass: what lay in ``.grad`` before, and what does afterwards.

    Args:
        census: The parameters.
        passage: What the graph shows.
        run: The pass.
    """

    def __init__(self, census: Census, passage: Passage, run: Pass) -> None:
        """Take old gradients out where that is safe, and remember the others."""
        self._passage = passage
        hidden = 0
        if passage.blind and run.inputs is None:
            for number, ref in enumerate(census.parameters):
                parameter = ref()
                if parameter is not None and parameter.requires_grad:
                    hidden |= 1 << number
        self._hidden = hidden & ~passage.whole.reach
        open_ = passage.whole.reach & ~passage.live
        self._before: dict[int, tuple[Tensor, int, int]] = {}
        aside: list[Tensor] = []
        for number in bits(open_ | self._hidden):
            parameter = census.parameters[number]()
            if parameter is None:
                continue
            old = parameter.grad
            self._before[number] = (parameter, id(old), -1 if old is None else old._version)
            if old is not None and not run.create_graph and can_set_aside([parameter]):
                aside.append(parameter)
        self._aside = {id(parameter) for parameter in aside}
        self._vault = Vault(aside) if aside else None

    def settle(self) -> None:
        """Take down what has arrived, and put the old gradients back with what was added."""
        passage = self._passage
        for number, (parameter, identity, version) in self._before.items():
            new, bit = parameter.grad, 1 << number
            if id(parameter) in self._aside:
                arrived = new is not None
            else:
                arrived = new is not None and (id(new), new._version) != (identity, version)
            if not arrived or new is None:
                if passage.whole.reach & bit:
                    passage.dead |= bit
                continue
            passage.dead &= ~bit
            if self._hidden & bit:
                passage.whole.reach |= bit
            if has_value(new):
                passage.live |= bit
        self.close()

    def close(self) -> None:
        """Put the old gradients back."""
        if self._vault is not None:
            self._vault.close()
            self._vault = None
        self._before = {}
