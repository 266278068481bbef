"""What is timed in PyTorch: the twin at its fastest, not as it is written to be read.

Channels last, data and augmentation on the device, the random numbers of an epoch drawn at once,
autocast for bfloat16, cuDNN's own search for algorithms, no wait for the device within an epoch;
as it is ("eager") and through torch.compile.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from jaxnets.bench.torch_augment import DeviceAugment
from jaxnets.data import Dataset
from jaxnets.timing import Clock, Work, timed
from torch_ref.step import param_dtype
from torch_ref.task import build


def modes(device: torch.device) -> dict[str, str | None]:
    """The ways to run a network: torch.compile's mode, None for none.

    "graphs" are CUDA graphs, which spare small networks the cost of Python.
    """
    found = {"eager": None, "compiled": "default"}
    return found | ({"graphs": "reduce-overhead"} if device.type == "cuda" else {})


def set_up(tf32: bool) -> None:
    """Takes all cores of this process, and TF32 or not, as JAX does."""
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


class Twin:
    """The twin of a recipe's run with its data on the device; several `TorchSide`s may share it."""

    def __init__(self, config: Any, data: Dataset):
        self.task = task = build(config, data)
        self.device = task.device
        images, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
        self.images, self.labels = images.to(self.device), labels.long().to(self.device)
        self.test_images = torch.from_numpy(data.test_images).to(self.device)
        self.test_labels = torch.from_numpy(data.test_labels).long().to(self.device)
        _, height, width, _ = data.train_images.shape
        self._queued = DeviceAugment(task.augment.ops, height, width, self.device)
        wide = torch.promote_types(self.dtype, torch.float32)
        mean, std = torch.tensor([task.mean, task.std], dtype=torch.float64)
        self._shift = (255 * mean).to(self.device, wide)
        self._scale = (1 / (255 * std)).to(self.device, wide)

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters and inputs."""
        return param_dtype(self.task.dtype)

    def normalize(self, images: Tensor) -> Tensor:
        """Inputs (n, 3, H, W), channels last, of uint8 images (n, H, W, 3)."""
        wide = (images.to(self._shift.dtype) - self._shift) * self._scale
        return wide.to(self.dtype).permute(0, 3, 1, 2)

    def prepare(self, images: Tensor, params: dict) -> Tensor:
        """Inputs of augmented images; on a CPU as the twin makes them."""
        if self.device.type != "cpu":
            return self.prepare_queued(images, params)
        return self.normalize(self.task.augment.apply(images, params))

    def prepare_queued(self, images: Tensor, params: dict) -> Tensor:
        """The same without waiting for the device, and without branches: it can be compiled."""
        with self.device:
            return self.normalize(self._queued.apply(images, params))

    def draw(self) -> tuple[Tensor, dict]:
        """An epoch's order and the parameters of its augmentations."""
        count, height, width, _ = self.images.shape
        with self.device:
            u = torch.rand(count, self.task.augment.size)
            return torch.randperm(count), self.task.augment.draw(u, height, width)

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class TorchSide:
    """One variant of a twin; `train`, `evaluate` and `latency` are its work, in images.

    Raises, when it is made, whatever torch.compile raises, and TimeoutError.
    """

    def __init__(
        self, twin: Twin, mode: str | None, limit: float, clock: Clock = time.perf_counter
    ):
        self._twin, self._done = twin, 0
        self._net, self._prepare = twin.task.net, twin.prepare
        self.note: str | None = None
        if twin.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with contextlib.nullcontext() if mode is None else at_most(limit):
            if mode is not None:
                self._net = torch.compile(twin.task.net, dynamic=False, mode=mode)
                if twin.device.type != "cpu":  # where it is no faster compiled
                    self._compile_augmentation()
            self.first_step_seconds = timed(lambda: self._train(1), clock)
            self._evaluate(1)
            self._one_by_one(1)
        self.train = Work(self._train, twin.task.batch_size)
        self.evaluate = Work(self._evaluate, len(twin.test_labels))
        self.latency = Work(self._one_by_one)

    def _compile_augmentation(self) -> None:
        compiled = torch.compile(self._twin.prepare_queued, dynamic=False)
        try:
            compiled(*self._batch(0)[::2])
        except Exception as e:
            self.note = f"augmentation not compiled: {one_line(e)}"
        else:
            self._prepare = compiled

    def _logits(self, inputs: Tensor) -> Tensor:
        task = self._twin.task
        torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=task.dtype == "bfloat16"):
            return self._net(inputs).to(self._twin.dtype)

    def _batch(self, index: int) -> tuple[Tensor, Tensor, dict]:
        """Images, labels and parameters of batch `index` of an epoch; the first one begins it."""
        if index == 0:
            self._order, self._params = self._twin.draw()
        size = self._twin.task.batch_size
        here = slice(index * size, (index + 1) * size)
        params = {
            op: {name: value[here] for name, value in drawn.items()}
            for op, drawn in self._params.items()
        }
        rows = self._order[here]
        return self._twin.images[rows], self._twin.labels[rows], params

    def _train(self, steps: int) -> None:
        twin, task = self._twin, self._twin.task
        task.net.train()
        totals = torch.zeros(3, device=twin.device)
        for _ in range(steps):
            images, labels, params = self._batch(self._done % task.steps_per_epoch)
            inputs = self._prepare(images, params)
            logits = self._logits(inputs)
            loss = F.cross_entropy(logits, labels, label_smoothing=task.label_smoothing)
            loss.backward()
            grads = [p.grad for p in task.net.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            task.optimizer.step()
            task.optimizer.zero_grad()  # here: no gradient outlives its CUDA graph
            correct = (logits.argmax(1) == labels).sum()
            totals += torch.stack([loss.detach() * len(labels), correct, norm]).float()
            self._done += 1
        totals.cpu()
        twin.wait()

    @torch.no_grad()
    def _evaluate(self, times: int) -> None:
        twin, size = self._twin, self._twin.task.batch_size
        twin.task.net.eval()
        batches = [*zip(twin.test_images.split(size), twin.test_labels.split(size), strict=True)]
        for _ in range(times):
            loss = correct = 0
            for images, labels in batches:
                logits = self._logits(twin.normalize(images))
                loss += F.cross_entropy(logits, labels, reduction="sum")
                correct += (logits.argmax(1) == labels).sum()
            float(loss), float(correct)
        twin.wait()

    @torch.no_grad()
    def _one_by_one(self, times: int) -> None:
        self._twin.task.net.eval()
        image = self._twin.test_images[:1]
        for _ in range(times):
            self._logits(self._twin.normalize(image))
            self._twin.wait()


def peak_memory(device: torch.device) -> int | None:
    """Bytes of a GPU that PyTorch held at most since the last `TorchSide` began; None on a CPU."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else None


def one_line(error: Exception) -> str:
    """What went wrong, in a line of moderate length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


class _Late(BaseException):
    """Not an Exception, so that no handler on the way mistakes it for an error of the program."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Ends what it encloses after so long; without effect where there are no alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Late:
        raise TimeoutError(f"took more than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
