"""VRM's clips in ARKit's blend shapes, and how a frame is mixed where a sender sends both.

A "perfect sync" model has the 52 ARKit shapes as clips beside VRM's own, and its sender sends all of them in every
frame, whether its tracker moves them or not. So for each part of the face what moved last counts: ARKit's shapes
where they move, since they say more, and VRM's clips where only they do. Expressions that a person switches on (Joy)
are added in any case.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from avatar_stream.face.arkit import LOOK, NAMES

HELD: Final = 0.3  # seconds that a value counts without coming again
FADE: Final = 0.3  # seconds in which it is let go then
_STEP: Final = 0.02  # a change that counts as movement, of a coefficient or in radians
_LATER: Final = 0.3  # seconds by which something else must have moved later to take a part of the face over


class _Part(NamedTuple):
    """A part of the face that a tracker moves in ARKit's shapes, in VRM's clips or in both."""

    names: tuple[str, ...]  # ARKit's shapes that show that they track it
    clips: Mapping[str, Mapping[str, float]]
    adds: bool  # clips add up; otherwise the strongest counts


def _named(*starts: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name.startswith(starts))


def _both(*names: str, share: float) -> dict[str, float]:
    return {f"{name}{side}": share for name in names for side in ("Left", "Right")}


# By VRM 0's names, in lower case; VRM 1's are aliases.
_LIPS: Final = _Part(
    _named("jaw", "mouth"),
    {
        "a": {"jawOpen": 0.6},
        "i": {"jawOpen": 0.12} | _both("mouthStretch", share=0.5),
        "u": {"jawOpen": 0.15, "mouthPucker": 0.8},
        "e": {"jawOpen": 0.3} | _both("mouthStretch", share=0.3),
        "o": {"jawOpen": 0.4, "mouthFunnel": 0.7},
    },
    adds=True,
)
_LIDS: Final = _Part(
    _named("eyeBlink"),
    {"blink": _both("eyeBlink", share=1), "blink_l": {"eyeBlinkLeft": 1}, "blink_r": {"eyeBlinkRight": 1}},
    adds=False,
)
# No clips of VRM's, but VSeeFace's own for models without ARKit's shapes.
_BROWS: Final = _Part(
    _named("brow"),
    {
        "brows up": {"browInnerUp": 0.8} | _both("browOuterUp", share=0.8),
        "brows down": _both("browDown", share=0.8),
    },
    adds=False,
)
_GAZE: Final = _Part(
    _named("eyeLook"),
    {
        "lookup": _both("eyeLookUp", share=1),
        "lookdown": _both("eyeLookDown", share=1),
        "lookleft": {"eyeLookOutLeft": 1, "eyeLookInRight": 1},
        "lookright": {"eyeLookInLeft": 1, "eyeLookOutRight": 1},
    },
    adds=True,
)
# Neutral is the face at rest: it adds nothing.
_EXPRESSIONS: Final[Mapping[str, Mapping[str, float]]] = {
    "joy": _both("mouthSmile", share=0.8) | _both("cheekSquint", share=0.4),
    "angry": _both("browDown", share=0.8),
    "sorrow": {"browInnerUp": 0.7} | _both("mouthFrown", share=0.6),
    "fun": _both("mouthSmile", share=0.6),
    "surprised": {"browInnerUp": 0.8, "jawOpen": 0.3} | _both("browOuterUp", "eyeWide", share=0.7),
}
_ALIASES: Final = {
    "aa": "a", "ih": "i", "ou": "u", "ee": "e", "oh": "o", "blinkleft": "blink_l", "blinkright": "blink_r",
    "happy": "joy", "sad": "sorrow", "relaxed": "fun",
}  # fmt: skip
_CLIPS: Final = frozenset(_EXPRESSIONS).union(*(part.clips for part in (_LIPS, _LIDS, _BROWS, _GAZE)))
_BY_LOWER: Final = {name.lower(): name for name in NAMES}
_INWARDS: Final = {"Left": -1.0, "Right": 1.0}  # which way the nose lies, to the viewer's right


class Track:
    """A value that comes again and again, of ``size`` numbers: it is let go when it stops coming."""

    def __init__(self, size: int = 1) -> None:
        self.value = self._mark = (0.0,) * size
        self._came = self._moved = -math.inf

    def take(self, value: tuple[float, ...], now: float) -> None:
        """It came at ``now`` seconds."""
        if any(abs(new - old) > _STEP for new, old in zip(value, self._mark, strict=True)):
            self._mark, self._moved = value, now
        self.value, self._came = value, now

    def at(self, now: float) -> tuple[float, ...]:
        """What it is at ``now`` seconds: as it came, on its way to 0, or 0."""
        share = min(max((self._came + HELD + FADE - now) / FADE, 0.0), 1.0)
        return tuple(share * x for x in self.value)

    def moved(self, now: float) -> float:
        """When it last changed; never, if it was let go since."""
        return self._moved if now - self._came < HELD + FADE else -math.inf


class Mixer:
    """What a sender says of a face, in whichever names, as ARKit's shapes."""

    def __init__(self) -> None:
        self._shapes: dict[str, Track] = {}
        self._clips: dict[str, Track] = {}
        self._eyes = {side: Track(2) for side in _INWARDS}

    def take(self, name: str, value: float, now: float) -> None:
        """A blend shape of ARKit's or a clip of VRM's, 0 to 1, whatever its case; others are passed over."""
        name = name.lower()
        if (shape := _BY_LOWER.get(name)) is not None:
            self._shapes.setdefault(shape, Track()).take((value,), now)
        elif (clip := _ALIASES.get(name, name)) in _CLIPS:
            self._clips.setdefault(clip, Track()).take((value,), now)

    def look(self, side: str, right: float, down: float, now: float) -> None:
        """The bone of the eye on this side, "Left" or "Right": radians to the viewer's right and down."""
        self._eyes[side].take((right, down), now)

    def shapes(self, now: float) -> dict[str, float]:
        """ARKit's shapes at ``now`` seconds."""
        said = {name: track.at(now)[0] for name, track in self._shapes.items()}
        clips = {name: track.at(now)[0] for name, track in self._clips.items()}
        mixed = dict(said)
        for part in (_LIPS, _LIDS, _BROWS):
            if self._leader([self._of(part.names, now), self._of(part.clips, now)]) == 1:
                _strongest(mixed, _meant(part, clips))
        match self._leader([self._of(_GAZE.names, now), _last(self._eyes.values(), now), self._of(_GAZE.clips, now)]):
            case 1:
                mixed |= self._gaze(now)
            case 2:
                mixed |= dict.fromkeys(_GAZE.names, 0.0) | _meant(_GAZE, clips)
        for clip, shares in _EXPRESSIONS.items():
            # A sender that makes the clip of the very shapes that it sends, too, says nothing new by it.
            top = max(shares.values())
            shown = max(said.get(name, 0.0) / share for name, share in shares.items() if share == top)
            if (value := clips.get(clip, 0.0)) > shown:
                _strongest(mixed, {name: share * value for name, share in shares.items()})
        return mixed

    def _of(self, names: Iterable[str], now: float) -> float:
        """When the shapes or clips of these names last moved."""
        tracks = (self._shapes.get(name) or self._clips.get(name) for name in names)
        return _last((track for track in tracks if track is not None), now)

    @staticmethod
    def _leader(moved: list[float]) -> int:
        """Who counts of those that last moved then: the first that is not clearly behind another."""
        newest = max(moved)
        return next((k for k, at in enumerate(moved) if -math.inf < at and at >= newest - _LATER), 0)

    def _gaze(self, now: float) -> dict[str, float]:
        shapes: dict[str, float] = {}
        for side, inwards in _INWARDS.items():
            right, down = self._eyes[side].at(now)
            inward, down = (min(max(x, -1.0), 1.0) for x in (right * inwards / LOOK[0], down / LOOK[1]))
            shapes |= {f"eyeLookIn{side}": max(inward, 0.0), f"eyeLookOut{side}": max(-inward, 0.0)}
            shapes |= {f"eyeLookDown{side}": max(down, 0.0), f"eyeLookUp{side}": max(-down, 0.0)}
        return {name: float(value) for name, value in shapes.items()}


def _last(tracks: Iterable[Track], now: float) -> float:
    return max((track.moved(now) for track in tracks), default=-math.inf)


def _meant(part: _Part, clips: Mapping[str, float]) -> dict[str, float]:
    """What clips of a part say in ARKit's shapes."""
    shapes: dict[str, float] = {}
    for clip, shares in part.clips.items():
        for name, share in shares.items():
            value, before = share * clips.get(clip, 0.0), shapes.get(name, 0.0)
            shapes[name] = min(before + value, 1.0) if part.adds else max(before, value)
    return shapes


def _strongest(mixed: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        mixed[name] = max(mixed.get(name, 0.0), value)
