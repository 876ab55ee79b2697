"""Constraints on a face's expression: parts held still, limits per blend shape, gains per region.

An ``Expression`` combines all three. It is applied to each motion, and saved with a character.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from avatar_stream.errors import BadInput
from avatar_stream.face.held_parts import HOLDABLE_PARTS, checked_hold, hold_parts
from avatar_stream.face.mesh import INNER_LIP_UPPER
from avatar_stream.face.model import COEFFICIENT_INDEX, coefficient_indices
from avatar_stream.face.motion import RELATIVE_COEFFICIENTS, Motion

REGIONS: Final = ("brows", "eyes", "gaze", "mouth", "jaw", "head")
MAX_GAIN: Final = 2.0
_REGION_COEFFICIENTS: Final = {
    "brows": coefficient_indices("brow"),
    "eyes": coefficient_indices("eyeBlink", "eyeSquint", "eyeWide", "cheekSquint"),
    "mouth": coefficient_indices("mouth", "cheekPuff", "noseSneer"),
    "jaw": coefficient_indices("jaw"),
}
_BLINKS: Final = ("eyeBlinkRight", "eyeBlinkLeft")  # in the order of a motion's lids


@dataclass(frozen=True, slots=True)
class Expression:
    """Constraints on a face, for ``Avatar.set_expression``. All are optional and can be combined.

    ::

        Expression(hold={"smile"}, limits={"jawOpen": (0, 0.3)}, gains={"head": 0.5})

    ``hold`` names what stays fixed: ``gaze`` (looks where the portrait looks), ``smile`` (a gentle smile),
    ``serious`` (no smile), ``mouth`` (shut), ``teeth`` (not shown), ``awake`` (eyes never fully closed), ``brows``
    (at rest).

    ``limits`` gives a blend shape's minimum and maximum by its ARKit name, each from 0 to 1.

    ``gains`` multiplies how far a region moves, from 0 to 2; 1 leaves it as driven. Regions are ``brows``, ``eyes``,
    ``gaze``, ``mouth``, ``jaw`` and ``head``.

    Raises :class:`~avatar_stream.errors.BadInput` for an unknown name or a number out of range.
    """

    hold: Collection[str] = frozenset()
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hold", checked_hold(self.hold))
        object.__setattr__(self, "limits", _checked_limits(self.limits))
        object.__setattr__(self, "gains", _checked_gains(self.gains))

    @property
    def free(self) -> bool:
        """Whether nothing is held, limited or scaled."""
        return not (self.hold or self.limits or self.gains)

    def __call__(self, motion: Motion) -> Motion:
        """The motion within these constraints."""
        if self.free:
            return motion
        return self._limited(hold_parts(self._scaled(motion), self.hold))

    def _scaled(self, motion: Motion) -> Motion:
        if not self.gains:
            return motion
        coefficients = motion.coefficients.copy()
        for region, places in _REGION_COEFFICIENTS.items():
            coefficients[places] = np.clip(coefficients[places] * self.gains.get(region, 1.0), -1, 1)
        eyes, mouth = self.gains.get("eyes", 1.0), self.gains.get("mouth", 1.0)
        head = self.gains.get("head", 1.0)
        return replace(
            motion,
            coefficients=coefficients,
            gap=np.asarray(motion.gap * min(mouth, self.gains.get("jaw", mouth)), np.float32),
            lids=np.asarray(np.maximum(1 + eyes * (motion.lids - 1), 0), np.float32),
            lid_shape=np.asarray(motion.lid_shape * min(eyes, 1.0), np.float32),
            look=np.asarray(motion.look * self.gains.get("gaze", 1.0), np.float32),
            fit_residual=np.asarray(motion.fit_residual * min(mouth, eyes, 1.0), np.float32),
            turn=np.asarray(motion.turn * head, np.float32),
            shift=np.asarray(motion.shift * head, np.float32),
            scale=motion.scale * head,
        )

    def _limited(self, motion: Motion) -> Motion:
        if not self.limits:
            return motion
        coefficients, gap, lids = motion.coefficients.copy(), motion.gap, motion.lids
        for name, (least, most) in self.limits.items():
            if name in _BLINKS:
                side, lids = _BLINKS.index(name), lids.copy()
                lids[side] = np.clip(lids[side], 1 - most, max(1 - least, 0))
                continue
            if name == "jawOpen":
                # The lips' gap is limited with the jaw: a fully open jaw parts them by about half an eye distance.
                widest = float(np.abs(gap[:, 1]).max())
                allowed = 0.6 * most
                if widest > allowed:
                    gap = gap * np.float32(allowed / widest)
                if widest < 0.6 * least:
                    arc = np.sin(np.linspace(0, np.pi, len(INNER_LIP_UPPER))).astype(np.float32)
                    gap = gap.copy()
                    gap[:, 1] = np.maximum(gap[:, 1], 0.6 * least * arc)
            # Coefficients relative to their usual level may be negative, unless a minimum is set.
            low = -1.0 if COEFFICIENT_INDEX[name] in RELATIVE_COEFFICIENTS and least == 0 else least
            coefficients[COEFFICIENT_INDEX[name]] = np.clip(coefficients[COEFFICIENT_INDEX[name]], low, most)
        return replace(motion, coefficients=coefficients, gap=gap, lids=lids)

    def to_json(self) -> dict[str, Any]:
        """The expression as a JSON object that :meth:`from_json` reads."""
        return {
            "hold": sorted(self.hold),
            "limits": {name: [least, most] for name, (least, most) in self.limits.items()},
            "gains": dict(self.gains),
        }

    @staticmethod
    def from_json(value: Any) -> "Expression":
        """Read ``{"hold": [...], "limits": {"mouthSmileLeft": [0.4, 1]}, "gains": {"head": 0.5}}``; each is optional.

        Raises :class:`BadInput` if ``value`` is not valid.
        """
        if not isinstance(value, Mapping) or not set(value) <= {"hold", "limits", "gains"}:
            raise BadInput("an expression is an object that may have hold, limits and gains, and nothing else")
        hold, limits, gains = (value.get(name) for name in ("hold", "limits", "gains"))
        if hold is not None and not (isinstance(hold, list) and all(isinstance(one, str) for one in hold)):
            raise BadInput(f"hold must be a list of names out of {', '.join(HOLDABLE_PARTS)}")
        return Expression(
            hold or [],
            {} if limits is None else limits,
            {} if gains is None else gains,
        )


def _checked_limits(value: Any) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    pairs: list[tuple[str, Any]] = list(value.items()) if isinstance(value, Mapping) else [("", None)]
    for name, pair in pairs:
        is_pair = (
            isinstance(pair, list | tuple) and len(pair) == 2 and all(_is_number_up_to(value, 1.0) for value in pair)
        )
        if name not in COEFFICIENT_INDEX or not is_pair or pair[0] > pair[1]:
            raise BadInput("a limit must be an ARKit name with a minimum and a maximum from 0 to 1")
        found[name] = (float(pair[0]), float(pair[1]))
    return found


def _checked_gains(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping) or not all(
        name in REGIONS and _is_number_up_to(gain, MAX_GAIN) for name, gain in value.items()
    ):
        raise BadInput(f"a gain must be one of {', '.join(REGIONS)} with a number from 0 to {MAX_GAIN:g}")
    return {name: float(gain) for name, gain in value.items() if gain != 1}


def _is_number_up_to(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
