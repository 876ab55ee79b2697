"""What a runtime offers: a network that is run, and a tick network that keeps the state of its sessions.

Implementations: :mod:`openvino_cpu` (first choice on a CPU: with bf16 matrix units ten times onnxruntime's speed),
:mod:`onnx_runtime` (any CPU, and CUDA where ``onnxruntime-gpu`` is installed) and :mod:`tensorrt_gpu`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
Ports = dict[str, tuple[tuple[int, ...], npt.DTypeLike]]
"""Shape, for one session, and type of a network's inputs."""

STATE_NAMES: Final = ("latents", "conditioning", "guide", "landmarks_0", "landmarks_1")
"""The state of a window: each goes into a tick under its name and comes out as ``next_`` name.

A window of one slot has no older frames, and carries the landmark encoder's state alone.
"""
WINDOW_SLOTS: Final = (1, 2)
"""Numbers of slots there are graphs for; the first is what runs by default.

Anatomy is drawn before the network: what is left to it is light, which one level finds as well as two (24.33 and
24.34 dB in opened mouths through the live path) in half of the time and without a frame of delay.
"""
WEIGHTS_FILE: Final = "networks.weights"
"""The weights of all graphs of a folder, which refer to it by name."""
FRAME_INPUTS: Final = ("shown", "raster")
"""What is new in a tick (see ``AlignedInput``)."""


def tick_path(folder: Path, slots: int = WINDOW_SLOTS[0], precision: str = "fp16") -> Path:
    """Where the tick graph of a window of ``slots`` is kept; ``precision`` is fp16 or int8."""
    return folder / f"tick{slots}{'.int8' if precision == 'int8' else ''}.onnx"


def state_names(names: Iterable[str]) -> list[str]:
    """Those of a graph's ports that are state."""
    known = set(names)
    return [name for name in STATE_NAMES if name in known]


class Network(Protocol):
    """A loaded network without state. Not thread-safe: one thread at a time."""

    name: str
    """Runtime and precision, for reports: ``openvino bf16``."""

    def run(self, inputs: Arrays) -> Arrays:
        """Outputs by name. The arrays stay valid."""


class Stream(Protocol):
    """One session's identity and state, where the runtime wants them."""

    def reset(self) -> None:
        """Empty the window: all state zero."""

    def state(self) -> Arrays:
        """A copy of the state, for checks."""


@dataclass(frozen=True, slots=True)
class Job:
    """A frame, ``{"shown": uint8 (192, 192, 3), "raster": uint8 (7, 96, 96)}``, for the window of a stream."""

    stream: Any
    frame: Arrays


class Ticker(Protocol):
    """The tick network. Not thread-safe: one thread at a time.

    State is bound once and never leaves the runtime's device: what a tick puts out is the next one's input.
    """

    name: str
    slots: int
    """N, the frames in a window."""
    batches: tuple[int, ...]
    """For how many sessions one run can serve, ascending; 1 is always among them."""

    def open(self, identity: Arrays) -> Stream:
        """A stream for the portrait that the reference network said ``identity`` of, its window empty."""

    def run(self, jobs: Sequence[Job]) -> list[npt.NDArray[np.float32]]:
        """One tick of each job's window: residuals ``(192, 192, 3)`` in grey levels, which stay valid.

        ``len(jobs)`` must be one of ``batches`` and their streams distinct.
        """


class HostStream:
    """A stream in ordinary memory: two sets of state that take turns as input and output."""

    def __init__(self, identity: Arrays, ports: Ports) -> None:
        wanted = [name for name in ports if name in identity]
        self.identity = {name: np.ascontiguousarray(identity[name], ports[name][1]) for name in wanted}
        self.states = [{name: np.zeros(*ports[name]) for name in state_names(ports)} for _ in range(2)]
        self.current = 0
        self.binding: Any = None  # what a runtime wants to remember of it

    @property
    def state_in(self) -> Arrays:
        """The state that goes in, by input name."""
        return self.states[self.current]

    @property
    def state_out(self) -> Arrays:
        """Where the next state goes, by input name."""
        return self.states[1 - self.current]

    def swap(self) -> None:
        """What came out goes in next."""
        self.current = 1 - self.current

    def reset(self) -> None:
        """See :class:`Stream`."""
        for value in self.state_in.values():
            value[:] = 0

    def state(self) -> Arrays:
        """See :class:`Stream`."""
        return {name: value.copy() for name, value in self.state_in.items()}


def batched(jobs: Sequence[Job]) -> Arrays:
    """Frames, identities and states of several host streams, stacked into one run's inputs."""
    out = {name: np.stack([job.frame[name] for job in jobs]) for name in FRAME_INPUTS}
    for name in jobs[0].stream.identity:
        out[name] = np.concatenate([job.stream.identity[name] for job in jobs])
    for name in jobs[0].stream.state_in:
        out[name] = np.concatenate([job.stream.state_in[name] for job in jobs])
    return out


def unbatch(jobs: Sequence[Job], outputs: Arrays) -> list[npt.NDArray[np.float32]]:
    """Put a run's states back into the streams and return the residuals."""
    for k, job in enumerate(jobs):
        for name, value in job.stream.state_out.items():
            value[:] = outputs[f"next_{name}"][k : k + 1]
        job.stream.swap()
    return [np.array(residual, np.float32) for residual in outputs["residual"]]
