"""TensorBoard's event files, written at once by the calling thread.

tensorboardX's SummaryWriter writes in another thread, which ends at the first error, such as a full
disk, and then blocks whoever logs; its records are used here without it.
"""

import contextlib
import socket
import struct
import time
from pathlib import Path


class Events:
    """Appends numbers to a new `<workdir>/events.out.tfevents...`.

    Args:
        resume_step: TensorBoard hides what earlier files hold after this step.

    Raises:
        ImportError: tensorboardX is not installed.
        OSError: the file cannot be written; so do `write` and `close`.
    """

    def __init__(self, workdir: Path, resume_step: int = 0):
        from tensorboardX import RecordWriter

        now = time.time()
        self._path = workdir / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}"
        self._records = RecordWriter(str(self._path))
        self._add(file_version="brain.Event:2", wall_time=now)
        if resume_step:
            from tensorboardX.proto.event_pb2 import SessionLog

            start = SessionLog(status=SessionLog.START)
            self._add(session_log=start, step=resume_step + 1, wall_time=now)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One event that holds all values, by tag."""
        from tensorboardX.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(summary=Summary(value=scalars), step=step, wall_time=time.time())
        self._records.flush()

    def images(self, step: int, pngs: dict[str, bytes]) -> None:
        """One event that holds all images, PNGs of RGBA by tag."""
        from tensorboardX.proto.summary_pb2 import Summary

        def image(png: bytes) -> Summary.Image:
            width, height = struct.unpack(">II", png[16:24])
            return Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)

        values = [Summary.Value(tag=tag, image=image(png)) for tag, png in pngs.items()]
        self._add(summary=Summary(value=values), step=step, wall_time=time.time())
        self._records.flush()

    def close(self) -> None:
        """Closes the file, whatever is wrong with it: `write` has flushed all."""
        with contextlib.suppress(OSError):
            self._records.close()

    def _add(self, **fields) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(**fields).SerializeToString())
