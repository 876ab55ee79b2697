"""A person becomes a character: pictures are judged, compared with each other and kept with what is known of them."""

import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadInput, BadPicture, Forbidden
from avatar_stream.face import geometry
from avatar_stream.face.fit import fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.identity.attributes import TEETH, agreement, attributes_of, contradictions, unchecked
from avatar_stream.identity.likeness import Likeness, distance
from avatar_stream.identity.quality import Quality, judge
from avatar_stream.identity.records import (
    Character,
    checked_consent,
    checked_name,
    checked_tags,
    checked_text,
)
from avatar_stream.identity.store import Store
from avatar_stream.identity.style import checked_style, styled
from avatar_stream.portrait.aligned import rest_face
from avatar_stream.portrait.mouth import SHOWN
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.window import Networks

Image = npt.NDArray[np.uint8]

MOST_PICTURES: Final = 5
JUDGED: Final = 512  # pixels at which pictures are judged and compared
SAME: Final = 0.46
"""Distance of two likenesses up to which pictures may be of one person (measured by ``engines.likeness``)."""
PROTECTED: Final = 0.32
"""Distance up to which a face is taken for one that is protected: stricter, for a refusal needs a reason."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an enrolment did: the character, the quality of every picture, and which one it shows."""

    character: Character
    qualities: tuple[Quality, ...]
    shown: int

    def report(self) -> dict[str, Any]:
        """As JSON."""
        pictures = [quality.report() for quality in self.qualities]
        return self.character.public() | {"pictures": pictures, "shown": self.shown}


def enrol(
    store: Store,
    pictures: Sequence[bytes],
    *,
    name: str,
    consent: str,
    owner: str,
    tags: Iterable[str] = (),
    description: str = "",
    style: str = "",
    protected: bool = False,
    networks: Networks | None = None,
    quota: int = 0,
) -> Enrolled:
    """Enrol the person that one to five ``pictures`` (bytes of files) show; the best of them becomes the portrait.

    ``networks`` say the identity vector. Raises :class:`BadInput`, :class:`BadPicture` with the number of the picture
    that cannot be used, :class:`Forbidden` for a face that somebody has protected.
    """
    name, tags, style = checked_name(name), checked_tags(tags), checked_style(style)
    description = checked_text(description, "a description")
    if not 1 <= len(pictures) <= MOST_PICTURES:
        raise BadInput(f"a character is made of one to {MOST_PICTURES} pictures")
    agreed = checked_consent(consent, owner, time.time())
    portraits = [_prepared(data, number, len(pictures)) for number, data in enumerate(pictures, 1)]
    likenesses = [likeness_of(portrait) for portrait in portraits]
    _agree(likenesses)
    for likeness in likenesses:
        refuse_protected(store, likeness, owner)
    qualities = tuple(judge(portrait) for portrait in portraits)
    shown = int(np.argmax([quality.score for quality in qualities]))
    best = portraits[shown]
    fit, fitter = fit_still(best.landmarks)
    quality = qualities[shown].report()
    seen = quality["attributes"] = attributes_of(best)
    if description:
        # Said, not refused: whoever enrols knows better than a classifier.
        quality["description"] = contradictions(seen, description)
        quality["unchecked"] = unchecked(description)
    if style:
        quality["style_distance"] = round(distance(likenesses[shown], likeness_of(styled(best, style))), 3)
    character = Character(
        "", name, owner, agreed, time.time(), 0.0, tags, description, style, protected, quality,
        z_id=_vector(best, networks),
        likeness=np.mean(likenesses, axis=0).astype(np.float32),
        shape=np.asarray(fitter.identity, np.float32),
        mood=fit.coefficients,
    )  # fmt: skip
    order = [shown, *(k for k in range(len(pictures)) if k != shown)]
    files = {f"source {number}": pictures[k] for number, k in enumerate(order)}
    return Enrolled(store.add(character, files, quota=quota), qualities, shown)


def described(store: Store, description: str) -> Character | None:
    """The character that a description fits best, in their own words and in what is seen of them; None for nobody."""
    found = [(_fits(one, description), one) for one in store.characters()]
    best = max(found, key=lambda pair: pair[0], default=(0.0, None))
    return best[1] if best[0] > 0 else None


def _fits(one: Character, description: str) -> float:
    text = " ".join((one.name, one.description, *one.tags))
    return agreement(one.quality.get("attributes", {}), text, description)


def portrait_of(store: Store, character: Character, size: int, *, square: bool = False) -> Portrait:
    """The character's portrait at ``size`` (see ``prepare``): from the library's disk if it was prepared before."""
    kind = f"prepared {size}{' square' if square else ''}"
    digest = character.file(kind)
    if digest is not None:
        return unpacked(store.read(digest))
    source = character.file("source 0")
    if source is None:
        raise BadPicture(f"the picture of {character.name} is missing: enrol the person again")
    plain = prepare(read_picture(store.read(source)), size, name=character.name, square=square)
    portrait = replace(styled(plain, character.style), teeth=_teeth_beside(store, character, plain))
    store.attach(character.id, kind, packed(portrait))
    return portrait


def _teeth_beside(store: Store, character: Character, portrait: Portrait) -> tuple[Image, Floats] | None:
    """The mouth of the picture that shows most of the teeth, where the portrait itself shows none."""
    if geometry.lip_gaps(portrait.landmarks).max() > SHOWN:
        return None
    others = [one.digest for one in character.files if one.kind.startswith("source ") and one.kind != "source 0"]
    found = [prepare(read_picture(store.read(digest)), JUDGED) for digest in others]
    best = max(found, key=lambda one: float(geometry.lip_gaps(one.landmarks).max()), default=None)
    if best is None or geometry.lip_gaps(best.landmarks).max() < TEETH:
        return None
    return best.crop, best.landmarks


def likeness_of(portrait: Portrait) -> npt.NDArray[np.float32]:
    """What the guard's network says of a portrait at rest."""
    return Likeness.shared().of(portrait.crop, portrait.landmarks)


def refuse_protected(store: Store, likeness: npt.NDArray[np.float32], owner: str) -> None:
    """Raise :class:`Forbidden`, and say so in the audit, where a face is protected by somebody else."""
    for one in store.protected():
        if one.owner != owner and distance(one.likeness, likeness) < PROTECTED:
            store.note(owner, "refused", one.id, "a protected face")
            raise Forbidden("this face is protected: only who enrolled it may use it here")


def packed(portrait: Portrait) -> bytes:
    """A prepared portrait as a file."""
    arrays: dict[str, Any] = {
        "picture": portrait.picture,
        "box": np.array(portrait.box, np.int32),
        "plate": portrait.plate,
        "matte": portrait.matte,
        "landmarks": portrait.landmarks,
    }
    if portrait.shoulders is not None:
        arrays["shoulders"] = portrait.shoulders
    if portrait.teeth is not None:
        arrays["teeth"], arrays["teeth_landmarks"] = portrait.teeth
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpacked(data: bytes) -> Portrait:
    """And back."""
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        left, top, width, height = (int(value) for value in found["box"])
        shoulders = found["shoulders"] if "shoulders" in found.files else None
        teeth = (found["teeth"], found["teeth_landmarks"]) if "teeth" in found.files else None
        picture, plate, matte, landmarks = (found[name] for name in ("picture", "plate", "matte", "landmarks"))
        return Portrait(picture, (left, top, width, height), plate, matte, landmarks, shoulders, teeth)


def as_jpeg(picture: Image, quality: int = 90) -> bytes:
    """An RGB picture as a JPEG file."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def _prepared(data: bytes, number: int, of: int) -> Portrait:
    try:
        return prepare(read_picture(data), JUDGED)
    except BadPicture as error:
        raise BadPicture(f"picture {number} of {of}: {error}" if of > 1 else str(error)) from None


def _agree(likenesses: Sequence[npt.NDArray[np.float32]]) -> None:
    """Raise :class:`BadPicture` unless all pictures may show one person."""
    for a in range(len(likenesses)):
        for b in range(a + 1, len(likenesses)):
            if distance(likenesses[a], likenesses[b]) > SAME:
                raise BadPicture(
                    f"pictures {a + 1} and {b + 1} do not look like one person: enrol each person on their own"
                )


def _vector(portrait: Portrait, networks: Networks | None) -> npt.NDArray[np.float32]:
    """``z_id (512,)`` of length 1; none without networks."""
    if networks is None:
        return np.zeros(0, np.float32)
    face = rest_face(portrait.crop, portrait.landmarks).image
    return np.asarray(networks.refer(face)["z_id"].ravel(), np.float32)
