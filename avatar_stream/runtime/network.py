"""The protocols of a runtime: a network without state, and a tick network that keeps the state of its sessions.

Implementations: :mod:`openvino_cpu` (first choice on a CPU: ten times as fast as onnxruntime with bf16 matrix units),
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
"""Shape for one session, and type, of each of a network's inputs."""

STATE_NAMES: Final = ("latents", "conditioning", "guide", "landmarks_0", "landmarks_1")
"""The state of a window: inputs of a tick, which returns their next values as outputs ``next_NAME``.

A window of one slot has no older frames, so its state is that of the landmark encoder only.
"""
WINDOW_SLOTS: Final = (1, 2)
"""Numbers of slots with exported graphs; the first is the default.

Anatomy is drawn before the network runs, so that the network adds mainly light. One denoising level does that as well
as two (24.33 and 24.34 dB in opened mouths through the live path), in half of the time and with a frame less delay.
"""
WEIGHTS_FILE: Final = "networks.weights"
"""File with the weights of all graphs of a folder; the graphs refer to it by name."""
FRAME_INPUTS: Final = ("shown", "raster")
"""Inputs that are new in each tick (see ``AlignedInput``)."""


def tick_path(folder: Path, slots: int = WINDOW_SLOTS[0], precision: str = "fp16") -> Path:
    """Path of the tick graph of a window of ``slots``; ``precision`` is fp16 or int8."""
    return folder / f"tick{slots}{'.int8' if precision == 'int8' else ''}.onnx"


def state_names(names: Iterable[str]) -> list[str]:
    """The names among a graph's ports that are state."""
    known = set(names)
    return [name for name in STATE_NAMES if name in known]


class Network(Protocol):
    """A loaded network without state. Not thread-safe: one thread at a time."""

    name: str
    """Runtime and precision, for reports: ``openvino bf16``."""

    def run(self, inputs: Arrays) -> Arrays:
        """Run the network; returns outputs by name. The arrays stay valid."""


class Stream(Protocol):
    """One session's identity inputs and state, in the memory that the runtime needs."""

    def reset(self) -> None:
        """Empty the window: set all state to zero."""

    def state(self) -> Arrays:
        """A copy of the state, for checks."""


@dataclass(frozen=True, slots=True)
class Job:
    """A frame for a stream's window: ``{"shown": uint8 (192, 192, 3), "raster": uint8 (7, 96, 96)}``."""

    stream: Any
    frame: Arrays


class Ticker(Protocol):
    """The tick network. Not thread-safe: one thread at a time.

    State is bound once and never leaves the runtime's device: the output state of a tick is the input of the next.
    """

    name: str
    slots: int
    """Number of frames in a window."""
    batches: tuple[int, ...]
    """Supported numbers of sessions in one run, ascending; 1 is always included."""

    def open(self, identity: Arrays) -> Stream:
        """Open a stream with an empty window; ``identity`` is the reference network's output for the portrait."""

    def run(self, jobs: Sequence[Job]) -> list[npt.NDArray[np.float32]]:
        """Run one tick of each job's window; returns residuals ``(192, 192, 3)`` in grey levels, which stay valid.

        ``len(jobs)`` must be one of ``batches`` and their streams distinct.
        """


class HostStream:
    """A stream in host memory, with two copies of the state that alternate as input and output."""

    def __init__(self, identity: Arrays, ports: Ports) -> None:
        wanted = [name for name in ports if name in identity]
        self.identity = {name: np.ascontiguousarray(identity[name], ports[name][1]) for name in wanted}
        self.states = [{name: np.zeros(*ports[name]) for name in state_names(ports)} for _ in range(2)]
        self.current = 0
        self.binding: Any = None  # for the runtime's own use

    @property
    def state_in(self) -> Arrays:
        """The input state, by input name."""
        return self.states[self.current]

    @property
    def state_out(self) -> Arrays:
        """Arrays for the next state, by input name."""
        return self.states[1 - self.current]

    def swap(self) -> None:
        """Use the output state as the next input."""
        self.current = 1 - self.current

    def reset(self) -> None:
        """See :class:`Stream`."""
        for value in self.state_in.values():
            value[:] = 0

    def state(self) -> Arrays:
        """See :class:`Stream`."""
        return {name: value.copy() for name, value in self.state_in.items()}


def batched(jobs: Sequence[Job]) -> Arrays:
    """Stack frames, identities and states of several host streams into the inputs of one run."""
    out = {name: np.stack([job.frame[name] for job in jobs]) for name in FRAME_INPUTS}
    for name in jobs[0].stream.identity:
        out[name] = np.concatenate([job.stream.identity[name] for job in jobs])
    for name in jobs[0].stream.state_in:
        out[name] = np.concatenate([job.stream.state_in[name] for job in jobs])
    return out


def unbatch(jobs: Sequence[Job], outputs: Arrays) -> list[npt.NDArray[np.float32]]:
    """Copy the output states of a run into the streams and return the residuals."""
    for k, job in enumerate(jobs):
        for name, value in job.stream.state_out.items():
            value[:] = outputs[f"next_{name}"][k : k + 1]
        job.stream.swap()
    return [np.array(residual, np.float32) for residual in outputs["residual"]]
