"""The time that a run has, what it tells, and how it is paused or stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from versemi.errors import Cancelled

CANCELLED = "The fine-tuning was cancelled; library, models and the parent pack are as they were."


@dataclass(frozen=True)
class News:
    """Where a run stands.

    Attributes:
        fraction: of the time that it has, 0..1.
        sentence: what it is doing.
        loss: mean over the last steps, None before the first.
        dice: for each learnt prompt the newest mean over corrected cases, 0..1: of the parent
            first, of what was learnt once it is measured.
    """

    fraction: float
    sentence: str
    loss: float | None = None
    dice: Mapping[str, float] = field(default_factory=dict)


class Control:
    """Pauses, resumes and ends a run from another thread.

    Attributes:
        given_up: whether a run that was ended is not to be taken up again.
    """

    def __init__(self) -> None:
        self.given_up = False
        self._changed = threading.Condition()
        self._paused = False
        self._cancelled = False

    def pause(self) -> None:
        """Stop computing at the next step or window."""
        self._set(paused=True)

    def resume(self) -> None:
        """Go on."""
        self._set(paused=False)

    def cancel(self) -> None:
        """End the run, also one that is paused, and forget what it has done so far."""
        self.given_up = True
        self._set(cancelled=True)

    def leave(self) -> None:
        """End the run, also one that is paused, so that the same command goes on with it."""
        self._set(cancelled=True)

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to end it."""
        return self._cancelled

    def wait(self) -> float:
        """Wait while paused; returns the seconds that it took."""
        if not self._paused:
            return 0.0
        begun = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or not self._paused)
        return time.monotonic() - begun

    def _set(self, *, paused: bool | None = None, cancelled: bool = False) -> None:
        with self._changed:
            self._paused = self._paused if paused is None else paused
            self._cancelled = self._cancelled or cancelled
            self._changed.notify_all()


class Watch:
    """Counts the seconds that a run computes, over all its starts, and speaks for it.

    Args:
        seconds: that the run has; the fraction of its news is of these.
        tell: takes the news.
        control: what others have asked for.
    """

    def __init__(
        self,
        seconds: float,
        tell: Callable[[News], None] | None = None,
        control: Control | None = None,
    ) -> None:
        self.seconds = seconds
        self.loss: float | None = None
        self.dice: dict[str, float] = {}
        self._tell = tell
        self._control = control or Control()
        self._before = 0.0
        self._since = time.monotonic()
        self._furthest = 0.0

    @property
    def used(self) -> float:
        """Seconds, without pauses."""
        return self._before + time.monotonic() - self._since

    @property
    def left(self) -> float:
        """Seconds; negative after the end."""
        return self.seconds - self.used

    def went_before(self, seconds: float) -> None:
        """Add what earlier starts of the run have used."""
        self._before += seconds

    def say(self, sentence: str) -> None:
        """Tell where the run stands."""
        self._furthest = max(self._furthest, min(1.0, self.used / self.seconds))
        if self._tell:
            self._tell(News(self._furthest, sentence, self.loss, dict(self.dice)))

    def asked_to_stop(self) -> bool:
        """Wait while the run is paused; whether it is to end."""
        self._since += self._control.wait()
        return self._control.cancelled

    def go_on(self) -> None:
        """Wait while the run is paused.

        Raises:
            Cancelled: it is to end.
        """
        if self.asked_to_stop():
            raise Cancelled(CANCELLED)
