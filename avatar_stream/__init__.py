"""A live portrait avatar server: a webcam animates another person's portrait, over WebRTC.

As a library::

    from avatar_stream import Avatar, Clip, Recorder

    clip = Clip("me.mp4")
    with Avatar("portrait.jpg") as avatar:
        recorder = Recorder("out.mp4", clip.rate, avatar.size, clip)
        for picture in avatar.stream(clip.frames()):
            recorder.write(picture)
        recorder.close()

Everything in ``__all__`` is imported on first use.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# The face model's fit solves many small linear systems. Threads make these slower, and on busy cores the threads wait
# for each other for tenths of a second. This must be set before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if TYPE_CHECKING:
    from avatar_stream.errors import AvatarError, BadClip, BadInput, BadPicture
    from avatar_stream.face.arkit import ArkitFrame
    from avatar_stream.face.capture import FaceCapture
    from avatar_stream.face.expression import Expression
    from avatar_stream.face.tracked_face import TrackedFace
    from avatar_stream.face.tracker import FaceState
    from avatar_stream.identity.library import sample_pictures
    from avatar_stream.media.files import Clip
    from avatar_stream.media.marking import Label, Marker
    from avatar_stream.media.recorder import Recorder
    from avatar_stream.pipeline.avatar import Avatar
    from avatar_stream.portrait.portrait import Portrait
    from avatar_stream.rigs.files import MotionFile, MotionWriter
    from avatar_stream.rigs.listener import RigListener
    from avatar_stream.rigs.vmc import VmcSender
    from avatar_stream.runtime.networks import Networks
    from avatar_stream.voice.speaker import VoiceMotion

_MODULE_EXPORTS = {
    "errors": ("AvatarError", "BadClip", "BadInput", "BadPicture"),
    "face.arkit": ("ArkitFrame",),
    "face.capture": ("FaceCapture",),
    "face.expression": ("Expression",),
    "face.tracked_face": ("TrackedFace",),
    "face.tracker": ("FaceState",),
    "identity.library": ("sample_pictures",),
    "media.files": ("Clip",),
    "media.marking": ("Label", "Marker"),
    "media.recorder": ("Recorder",),
    "pipeline.avatar": ("Avatar",),
    "portrait.portrait": ("Portrait",),
    "runtime.networks": ("Networks",),
    "rigs.files": ("MotionFile", "MotionWriter"),
    "rigs.listener": ("RigListener",),
    "rigs.vmc": ("VmcSender",),
    "voice.speaker": ("VoiceMotion",),
}
_MODULE_OF_NAME = {name: module for module, names in _MODULE_EXPORTS.items() for name in names}
__all__ = [
    "ArkitFrame",
    "Avatar",
    "AvatarError",
    "BadClip",
    "BadInput",
    "BadPicture",
    "Clip",
    "Expression",
    "FaceCapture",
    "FaceState",
    "Label",
    "Marker",
    "MotionFile",
    "MotionWriter",
    "Networks",
    "Portrait",
    "Recorder",
    "RigListener",
    "TrackedFace",
    "VmcSender",
    "VoiceMotion",
    "sample_pictures",
]


if not TYPE_CHECKING:  # with it, type checkers would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF_NAME:
            raise AttributeError(f"module 'avatar_stream' has no attribute {name!r}")
        return getattr(importlib.import_module(f"avatar_stream.{_MODULE_OF_NAME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
