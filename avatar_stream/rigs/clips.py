"""Converts VRM clips to ARKit blend shapes, and mixes both if a sender sends both.

A "perfect sync" model has the 52 ARKit shapes as clips beside VRM's own, and its sender sends all of them in every
frame, whether its tracker moves them or not. So each part of the face uses the source that changed last: ARKit's
shapes if they change, because they are more detailed; VRM's clips if only they change. Expressions that a person
switches on (Joy) are always added.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from avatar_stream.face.arkit import BLEND_SHAPES, EYE_TURN_RADIANS

HOLD_SECONDS: Final = 0.3  # how long a value stays without an update
FADE_SECONDS: Final = 0.3  # how long it then takes to fade to 0
_MIN_CHANGE: Final = 0.02  # smallest change that counts as movement: a coefficient, or radians
_TAKEOVER_SECONDS: Final = 0.3  # how much later another source must change, to control a part of the face


class _FacePart(NamedTuple):
    """A part of the face that a tracker moves by ARKit's shapes, by VRM's clips, or by both."""

    names: tuple[str, ...]  # the ARKit shapes whose changes show that they are tracked
    clips: Mapping[str, Mapping[str, float]]
    adds: bool  # whether clips add up; otherwise the strongest counts


def _shapes_starting(*starts: str) -> tuple[str, ...]:
    return tuple(name for name in BLEND_SHAPES if name.startswith(starts))


def _both_sides(*names: str, share: float) -> dict[str, float]:
    return {f"{name}{side}": share for name in names for side in ("Left", "Right")}


# Clips by VRM 0's names in lower case; VRM 1's names are aliases.
_LIPS: Final = _FacePart(
    _shapes_starting("jaw", "mouth"),
    {
        "a": {"jawOpen": 0.6},
        "i": {"jawOpen": 0.12} | _both_sides("mouthStretch", share=0.5),
        "u": {"jawOpen": 0.15, "mouthPucker": 0.8},
        "e": {"jawOpen": 0.3} | _both_sides("mouthStretch", share=0.3),
        "o": {"jawOpen": 0.4, "mouthFunnel": 0.7},
    },
    adds=True,
)
_LIDS: Final = _FacePart(
    _shapes_starting("eyeBlink"),
    {"blink": _both_sides("eyeBlink", share=1), "blink_l": {"eyeBlinkLeft": 1}, "blink_r": {"eyeBlinkRight": 1}},
    adds=False,
)
# VRM has no clips for brows; these are VSeeFace's own, for models without ARKit's shapes.
_BROWS: Final = _FacePart(
    _shapes_starting("brow"),
    {
        "brows up": {"browInnerUp": 0.8} | _both_sides("browOuterUp", share=0.8),
        "brows down": _both_sides("browDown", share=0.8),
    },
    adds=False,
)
_GAZE: Final = _FacePart(
    _shapes_starting("eyeLook"),
    {
        "lookup": _both_sides("eyeLookUp", share=1),
        "lookdown": _both_sides("eyeLookDown", share=1),
        "lookleft": {"eyeLookOutLeft": 1, "eyeLookInRight": 1},
        "lookright": {"eyeLookInLeft": 1, "eyeLookOutRight": 1},
    },
    adds=True,
)
# Neutral is not listed: it is the face at rest and adds nothing.
_EXPRESSIONS: Final[Mapping[str, Mapping[str, float]]] = {
    "joy": _both_sides("mouthSmile", share=0.8) | _both_sides("cheekSquint", share=0.4),
    "angry": _both_sides("browDown", share=0.8),
    "sorrow": {"browInnerUp": 0.7} | _both_sides("mouthFrown", share=0.6),
    "fun": _both_sides("mouthSmile", share=0.6),
    "surprised": {"browInnerUp": 0.8, "jawOpen": 0.3} | _both_sides("browOuterUp", "eyeWide", share=0.7),
}
_ALIASES: Final = {
    "aa": "a", "ih": "i", "ou": "u", "ee": "e", "oh": "o", "blinkleft": "blink_l", "blinkright": "blink_r",
    "happy": "joy", "sad": "sorrow", "relaxed": "fun",
}  # fmt: skip
_CLIPS: Final = frozenset(_EXPRESSIONS).union(*(part.clips for part in (_LIPS, _LIDS, _BROWS, _GAZE)))
_BY_LOWER: Final = {name.lower(): name for name in BLEND_SHAPES}
_NOSEWARD_SIGNS: Final = {"Left": -1.0, "Right": 1.0}  # 1 if the viewer sees the nose on the eye's right


class FadingValue:
    """A value of ``size`` numbers that is updated again and again, and fades to 0 when updates stop."""

    def __init__(self, size: int = 1) -> None:
        self.value = self._reference = (0.0,) * size
        self._updated_at = self._changed_at = -math.inf

    def update(self, value: tuple[float, ...], now: float) -> None:
        """Set the value at ``now`` seconds."""
        if any(abs(new - old) > _MIN_CHANGE for new, old in zip(value, self._reference, strict=True)):
            self._reference, self._changed_at = value, now
        self.value, self._updated_at = value, now

    def value_at(self, now: float) -> tuple[float, ...]:
        """The value at ``now`` seconds, faded if updates have stopped."""
        share = min(max((self._updated_at + HOLD_SECONDS + FADE_SECONDS - now) / FADE_SECONDS, 0.0), 1.0)
        return tuple(share * x for x in self.value)

    def last_change(self, now: float) -> float:
        """When the value last changed; -infinity if it has faded to 0."""
        return self._changed_at if now - self._updated_at < HOLD_SECONDS + FADE_SECONDS else -math.inf


class BlendShapeMixer:
    """Mixes a sender's blend shapes, VRM clips and eye bones to ARKit's blend shapes."""

    def __init__(self) -> None:
        self._shapes: dict[str, FadingValue] = {}
        self._clips: dict[str, FadingValue] = {}
        self._eyes = {side: FadingValue(2) for side in _NOSEWARD_SIGNS}

    def update_shape(self, name: str, value: float, now: float) -> None:
        """Set an ARKit blend shape or a VRM clip, 0 to 1, by its name in any case; ignores unknown names."""
        name = name.lower()
        if (shape := _BY_LOWER.get(name)) is not None:
            self._shapes.setdefault(shape, FadingValue()).update((value,), now)
        elif (clip := _ALIASES.get(name, name)) in _CLIPS:
            self._clips.setdefault(clip, FadingValue()).update((value,), now)

    def update_eye(self, side: str, right: float, down: float, now: float) -> None:
        """Set the eye bone of a ``side``, "Left" or "Right": radians to the viewer's right and down."""
        self._eyes[side].update((right, down), now)

    def shapes(self, now: float) -> dict[str, float]:
        """ARKit's blend shapes at ``now`` seconds."""
        sent = {name: track.value_at(now)[0] for name, track in self._shapes.items()}
        clips = {name: track.value_at(now)[0] for name, track in self._clips.items()}
        mixed = dict(sent)
        for part in (_LIPS, _LIDS, _BROWS):
            if self._source_in_use([self._newest_change(part.names, now), self._newest_change(part.clips, now)]) == 1:
                _raise_to(mixed, _clips_to_shapes(part, clips))
        match self._source_in_use(
            [
                self._newest_change(_GAZE.names, now),
                _last_change(self._eyes.values(), now),
                self._newest_change(_GAZE.clips, now),
            ]
        ):
            case 1:
                mixed |= self._eye_look_shapes(now)
            case 2:
                mixed |= dict.fromkeys(_GAZE.names, 0.0) | _clips_to_shapes(_GAZE, clips)
        for clip, shares in _EXPRESSIONS.items():
            # If a sender derives the clip from shapes that it also sends, the clip adds nothing.
            top = max(shares.values())
            shown = max(sent.get(name, 0.0) / share for name, share in shares.items() if share == top)
            if (value := clips.get(clip, 0.0)) > shown:
                _raise_to(mixed, {name: share * value for name, share in shares.items()})
        return mixed

    def _newest_change(self, names: Iterable[str], now: float) -> float:
        """When any of the shapes or clips with these names last changed."""
        tracks = (self._shapes.get(name) or self._clips.get(name) for name in names)
        return _last_change((track for track in tracks if track is not None), now)

    @staticmethod
    def _source_in_use(moved: list[float]) -> int:
        """Index of the source to use, given when each last changed: the first that is not clearly behind another."""
        newest = max(moved)
        return next((k for k, at in enumerate(moved) if -math.inf < at and at >= newest - _TAKEOVER_SECONDS), 0)

    def _eye_look_shapes(self, now: float) -> dict[str, float]:
        shapes: dict[str, float] = {}
        for side, inwards in _NOSEWARD_SIGNS.items():
            right, down = self._eyes[side].value_at(now)
            inward, down = (
                min(max(x, -1.0), 1.0) for x in (right * inwards / EYE_TURN_RADIANS[0], down / EYE_TURN_RADIANS[1])
            )
            shapes |= {f"eyeLookIn{side}": max(inward, 0.0), f"eyeLookOut{side}": max(-inward, 0.0)}
            shapes |= {f"eyeLookDown{side}": max(down, 0.0), f"eyeLookUp{side}": max(-down, 0.0)}
        return {name: float(value) for name, value in shapes.items()}


def _last_change(tracks: Iterable[FadingValue], now: float) -> float:
    return max((track.last_change(now) for track in tracks), default=-math.inf)


def _clips_to_shapes(part: _FacePart, clips: Mapping[str, float]) -> dict[str, float]:
    """ARKit's blend shapes for the clips of a part of the face."""
    shapes: dict[str, float] = {}
    for clip, shares in part.clips.items():
        for name, share in shares.items():
            value, before = share * clips.get(clip, 0.0), shapes.get(name, 0.0)
            shapes[name] = min(before + value, 1.0) if part.adds else max(before, value)
    return shapes


def _raise_to(mixed: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        mixed[name] = max(mixed.get(name, 0.0), value)
