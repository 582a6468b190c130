"""Share the cores of a run: the stage that took longest the last time starts first.

Stages that become ready at the same moment arrive here one after another, as their
tasks are started. A core is kept for a moment for stages that are ready and have not
arrived, so that a short one does not take the core that a long one is about to need.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

POLL_SECONDS = 0.02
# How long a stage that has arrived waits for a longer one that has not.
ARRIVAL_SECONDS = 1.0


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Cores:
    """The cores of one run.

    Args:
        number: how many there are.
        upstream: the stages of the run, each with those that must end before it.
        last_seconds: how long each stage took the last time; unknown ones come first.
    """

    def __init__(
        self,
        number: int,
        upstream: Mapping[str, tuple[str, ...]],
        last_seconds: Mapping[str, float],
    ) -> None:
        self._number = number
        self._free = number
        self._upstream = upstream
        self._seconds = {
            name: last_seconds.get(name, float("inf")) for name in upstream
        }
        self._ended: set[str] = set()
        self._arrived: set[str] = set()
        self._waiting: set[str] = set()
        self._condition = threading.Condition()

    @contextmanager
    def held(
        self, name: str, count: int = 1, *, pause: Callable[[float], object]
    ) -> Iterator[None]:
        """Wait until `count` cores are free, or all if there are fewer; hold them.

        `pause` is called with 0 while waiting, and may raise to give up.
        """
        count = min(count, self._number)
        deadline = time.monotonic() + ARRIVAL_SECONDS
        with self._condition:
            self._arrived.add(name)
            self._waiting.add(name)
            try:
                while not self._is_next(name, count, deadline):
                    self._condition.wait(POLL_SECONDS)
                    pause(0)
                self._free -= count
            finally:
                self._waiting.remove(name)
                self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._free += count
                self._condition.notify_all()

    def ended(self, name: str) -> None:
        """Note that a stage ended, whether or not it held cores."""
        with self._condition:
            self._ended.add(name)
            self._condition.notify_all()

    def _is_next(self, name: str, count: int, deadline: float) -> bool:
        if count > self._free:
            return False
        rivals = set(self._waiting)
        if time.monotonic() < deadline:
            rivals |= {
                stage
                for stage, upstream in self._upstream.items()
                if stage not in self._arrived | self._ended
                and self._ended.issuperset(upstream)
            }
        seconds = self._seconds.get(name, 0.0)
        return all(self._seconds.get(rival, 0.0) <= seconds for rival in rivals)
