"""Switches a running server to TensorRT if there is a GPU."""

import logging
from collections.abc import Callable

from avatar_stream.errors import AvatarError
from avatar_stream.runtime import tensorrt_build
from avatar_stream.runtime.choose import load
from avatar_stream.runtime.network import tick_path
from avatar_stream.runtime.networks import WEIGHTS, Networks
from avatar_stream.runtime.plans import PlanCache
from avatar_stream.runtime.rollout import identity_inputs, roll_out
from avatar_stream.tools import parity

log = logging.getLogger(__name__)
CHECK_TICKS = 100  # in the check that TensorRT must pass before it is used


def upgrade(networks: Networks, *, automatic: bool = True) -> None:
    """Switch ``networks`` to the fastest runtime of this machine. Blocks: run it in its own thread.

    ``automatic``: the user chose no engine. A failure is logged in one line, and the current engine stays in use.
    """
    if (
        automatic
        and tensorrt_build.gpu_name()
        and tensorrt_build.tensorrt_module()
        and "tensorrt" not in networks.name
    ):
        _attempt(networks, lambda: _to_tensorrt(networks))


def _attempt(networks: Networks, work: Callable[[], None]) -> None:
    try:
        work()
    except AvatarError as error:
        log.warning("%s stays in use: %s", networks.name, error)
    except Exception:
        log.exception("the switch to TensorRT failed: %s stays in use", networks.name)


def _to_tensorrt(networks: Networks) -> None:
    network, cache = tick_path(WEIGHTS), PlanCache()
    key = tensorrt_build.plan_key(network)
    if cache.find(key) is None:
        log.info("building a TensorRT plan for %s", key.gpu)
        cache.store(key, tensorrt_build.build(network))
    face, frames = parity.recorded_ticks(CHECK_TICKS)
    rolled = []
    for runtime in ("onnxruntime", "tensorrt"):
        reference, ticker = load(WEIGHTS, runtime=runtime)
        rolled.append(roll_out(ticker, identity_inputs(reference, face), frames))
    found = parity.compare("tensorrt", rolled[1], rolled[0])
    if not found.passed:
        raise AvatarError(f"the TensorRT plan failed its check ({found.psnr} dB): it is not used")
    networks.switch("tensorrt")
    log.info("switched to %s (%.1f dB from onnxruntime)", networks.name, found.psnr)
