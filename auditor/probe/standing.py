"""Where the probe stands: observing, looking on, or experimenting, and how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.probe.parts.ranks import world
from auditor.spec import ProbeSpec

if TYPE_CHECKING:
    from auditor.probe.director import Director


class Standing:
    """A part of the probe."""

    spec: ProbeSpec
    director: Director
    _launched: bool

    @property
    def observing(self) -> bool:
        return self.director.observing

    @property
    def observed(self) -> int:
        """Steps of the untouched loop that are complete."""
        return self.director.observed

    @property
    def looking_on(self) -> bool:
        """After the observed steps, before the experiments: the loop goes on as it is, and nothing is recorded."""
        return self.director.looking_on

    @property
    def position(self) -> int:
        """Steps of the untouched loop that are complete, those that were only looked on at included."""
        return self.director.observed + self.director.looked_on

    @property
    def replayed(self) -> int:
        """Steps of the current replay that are complete."""
        return self.director.player.replayed

    @property
    def recording(self) -> bool:
        return self.observing and self.spec.experiments and not self.looking_on

    @property
    def alone(self) -> bool:
        """No other process trains with this one."""
        return world()[1] < 2

    @property
    def time_lapse(self) -> bool:
        """Ranks are cut short together, or not at all: only where each was started by a launcher, under an audit."""
        return self.spec.experiments and not self.spec.attempt and (self.alone or self._launched)

    @property
    def lapse_after(self) -> int:
        """The first epoch is cut short after this many steps, so that the rest of the observation sees a second one."""
        return max(1, (self.director.steps_to_observe * 2) // 3)
