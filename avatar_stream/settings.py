"""Everything a person who runs the server may set, with its default and unit."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of ``avatar-stream serve``; each is a flag of the same name."""

    host: str = "127.0.0.1"
    port: int = 8080
    size: int = 384  # side of the square avatar stream, pixels
    fps: int = 25  # of the avatar stream
    sessions: int = 4  # at the same time
    engine: str = "auto"  # auto | openvino | onnxruntime | warp
    threads: int = max(1, (os.cpu_count() or 2) // 2)  # of the network; tracking, codecs and a browser want the rest
    frame_marks: bool = False  # carry a frame number from the camera picture to the avatar's, to measure latency

    connect_timeout: float = 15.0  # seconds from the offer to a connection
    disconnect_timeout: float = 6.0  # seconds a connection may be interrupted
    control_timeout: float = 8.0  # seconds a page may be away from its control channel once it had one
    max_offer: int = 64 * 1024  # bytes of an SDP offer
    max_upload: int = 24 * 1024 * 1024  # bytes of a portrait
    uploads: int = 32  # portraits kept; the oldest goes first
