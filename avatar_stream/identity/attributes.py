"""Attributes of a face (glasses, smile, teeth), and whether a description in words agrees with them.

Glasses are detected by a small classifier, which ``engines.attributes`` trains and evaluates. Smiles and teeth are
measured on the fitted face model. Age, sex, hair and beards are not checked: the data has no ground truth for them,
or the classifier was wrong too often (figures in docs/identity.md).
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.fit import fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX
from avatar_stream.identity.likeness import FACE_SIZE, likeness_face
from avatar_stream.portrait.portrait import Portrait

Image = npt.NDArray[np.uint8]

MIN_SMILE: Final = 0.25  # mean of the two smile coefficients
MIN_TEETH_GAP: Final = 0.045  # lip gap in eye distances
EYE_ROWS: Final = slice(1, 6)  # of the 11 rows of HOG blocks
EYE_COLOUR_ROWS: Final = slice(2, 6)  # of the 12 rows of colours
_SMILE_INDICES: Final = [COEFFICIENT_INDEX["mouthSmileLeft"], COEFFICIENT_INDEX["mouthSmileRight"]]

# Regular expressions for attributes that can be checked, English and Chinese.
CHECKED_WORDS: Final = {
    "glasses": (r"glasses|spectacles|eyeglasses|bespectacled", "眼镜|眼鏡"),
    "smile": (r"smil\w*|grin\w*|laugh\w*", "微笑|笑"),
    "teeth": (r"teeth|tooth", "牙"),
}
OPPOSITE_WORDS: Final = {"smile": (r"serious|unsmiling|stern", "严肃|嚴肅")}
_NEGATION: Final = r"(?:no|not|without|never|isn't|doesn't|nor)[ -]+(?:\w+[ -]+){0,2}?"
_CHINESE_NEGATION: Final = "(?:不|没有|没|無|无|未)(?:戴|带|露|在)?"
# Words for attributes that are not checked.
UNCHECKED_WORDS: Final = {
    "age": r"young\w*|old\w*|elderly|middle-aged|teen\w*|child\w*|boy|girl|\d+ years|年轻|老|岁|儿童|中年",
    "sex": r"\bm[ae]n\b|wom[ae]n|male|female|lady|gentleman|男|女",
    "hair and beard": r"hair\w*|beard\w*|moustache|mustache|bald|blond\w*|发|胡|秃",
    "clothes": r"jacket|shirt|suit|dress|hat|tie|外套|衬衫|西装|帽",
}
_STOP_WORDS: Final = {
    "the", "and", "with", "about", "who", "has", "for", "are", "from", "person", "someone", "somebody",
}  # fmt: skip


@cache
def _glasses_classifier() -> tuple[Floats, Floats, float]:
    with np.load(Path(__file__).parent / "glasses.npz") as found:
        weights, middle = found["weights"].astype(np.float32), found["middle"].astype(np.float32)
        return weights, middle, float(found["offset"])


def eye_features(face: Image) -> Floats:
    """Input vector of the glasses classifier: gradients and colours around the eyes.

    ``face`` is RGB ``(96, 96, 3)`` (see ``likeness_face``). The gradients are histograms of oriented gradients (Dalal
    and Triggs, CVPR 2005).
    """
    hog = cv2.HOGDescriptor((FACE_SIZE, FACE_SIZE), (16, 16), (8, 8), (8, 8), 9)
    gradients = np.asarray(hog.compute(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY))).reshape(11, 11, 36)[:, EYE_ROWS]
    lab = cv2.cvtColor(face, cv2.COLOR_RGB2LAB).astype(np.float32)
    colours = cv2.resize(lab, (12, 12), interpolation=cv2.INTER_AREA)
    colours = ((colours - colours.reshape(-1, 3).mean(0)) / 40)[EYE_COLOUR_ROWS]
    return np.concatenate([gradients.ravel(), colours.ravel()]).astype(np.float32)


def attributes_of(portrait: Portrait) -> dict[str, bool]:
    """Whether a prepared portrait shows ``glasses``, a ``smile`` and ``teeth``."""
    weights, middle, offset = _glasses_classifier()
    strip = eye_features(likeness_face(portrait.crop, portrait.landmarks))
    fit, _ = fit_still(portrait.landmarks)
    return {
        "glasses": bool((strip - middle) @ weights + offset > 0),
        "smile": bool(fit.coefficients[_SMILE_INDICES].mean() > MIN_SMILE),
        "teeth": bool(geometry.lip_gaps(portrait.landmarks).max() > MIN_TEETH_GAP),
    }


def claimed_attributes(description: str) -> dict[str, bool]:
    """The attributes that a description mentions: True if it claims one, False if it denies it."""
    claimed: dict[str, bool] = {}
    for name, (english, chinese) in CHECKED_WORDS.items():
        if re.search(rf"\b(?:{english})\b", description, re.IGNORECASE) or re.search(chinese, description):
            denied = re.search(rf"\b{_NEGATION}(?:{english})\b", description, re.IGNORECASE)
            claimed[name] = not (denied or re.search(f"{_CHINESE_NEGATION}(?:{chinese})", description))
    for name, (english, chinese) in OPPOSITE_WORDS.items():
        if re.search(rf"\b(?:{english})\b", description, re.IGNORECASE) or re.search(chinese, description):
            claimed.setdefault(name, False)
    return claimed


def unchecked_topics(description: str) -> list[str]:
    """The topics of a description that are not checked, as keys of ``UNCHECKED_WORDS``."""
    return [name for name, words in UNCHECKED_WORDS.items() if re.search(words, description, re.IGNORECASE)]


def contradictions(seen: Mapping[str, bool], description: str) -> list[str]:
    """A sentence for each attribute in which the description contradicts the picture (``seen``)."""
    lines = {
        ("glasses", True): "the description says glasses, the picture shows none",
        ("glasses", False): "the description says no glasses, the picture shows some",
        ("smile", True): "the description says smiling, the picture shows no smile",
        ("smile", False): "the description says serious, the picture shows a smile",
        ("teeth", True): "the description says teeth, the picture shows none",
        ("teeth", False): "the description says no teeth, the picture shows some",
    }
    claimed = claimed_attributes(description)
    return [lines[name, value] for name, value in claimed.items() if name in seen and seen[name] != value]


def match_score(seen: Mapping[str, bool], text: str, description: str) -> float:
    """How well a character fits the search text ``description``, 0 to 1.

    ``text`` describes the character, ``seen`` holds the attributes of its picture. The score is the share of the
    description's words and claims that match; it is 0 if the picture contradicts a claim.
    """
    claimed = claimed_attributes(description)
    if any(name in seen and seen[name] != value for name, value in claimed.items()):
        return 0.0
    words = {word for word in re.findall(r"\w+", description.lower()) if len(word) > 2} - _STOP_WORDS
    known = set(re.findall(r"\w+", text.lower()))
    chinese = [one for one in re.findall(r"[\u4e00-\u9fff]{2,}", description) if one in text]
    hits = len(words & known) + len(chinese) + sum(name in seen for name in claimed)
    return hits / max(len(words | set(chinese)) + len(claimed), 1)
