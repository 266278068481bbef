"""A signal that comes at a chosen step, for the tests of stopping and resuming."""

import signal


def stop_after(times: int) -> type:
    """A stand-in for StopSignal: has received SIGTERM once it was asked `times` times."""

    class StopAfter:
        asked = 0

        def __enter__(self) -> "StopAfter":
            return self

        def __exit__(self, *exc: object) -> None:
            pass

        @property
        def received(self) -> int | None:
            self.asked += 1
            return signal.SIGTERM if self.asked >= times else None

    return StopAfter
