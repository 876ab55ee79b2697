"""Enrolment: pictures of a person are assessed, compared with each other and stored as a character."""

import io
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadInput, BadPicture, Forbidden, LibraryFault
from avatar_stream.face import geometry
from avatar_stream.face.fit import fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.identity.attributes import (
    MIN_TEETH_GAP,
    attributes_of,
    contradictions,
    match_score,
    unchecked_topics,
)
from avatar_stream.identity.checks import (
    MAX_SOURCES,
    checked_consent,
    checked_name,
    checked_tags,
    checked_text,
)
from avatar_stream.identity.likeness import Likeness, likeness_distance
from avatar_stream.identity.picture_quality import PictureQuality, assess_portrait
from avatar_stream.identity.records import Character
from avatar_stream.identity.store import Store
from avatar_stream.identity.style import checked_style, styled
from avatar_stream.portrait.aligned import rest_face
from avatar_stream.portrait.interior.mouth import MIN_SHOWN_TEETH_GAP
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture

Image = npt.NDArray[np.uint8]
ReferenceNetwork = Callable[[Image], Mapping[str, npt.NDArray[Any]] | None]
"""Runs the reference network on an aligned face, RGB; returns its outputs by name, None if there are no networks."""

log = logging.getLogger(__name__)

ASSESSED_SIZE: Final = 512  # pixels of the longest side at which pictures are assessed and compared
MAX_SAME_PERSON_DISTANCE: Final = 0.46
"""Likeness distance up to which two pictures may show one person (measured by ``engines.likeness``)."""
MAX_PROTECTED_DISTANCE: Final = 0.32
"""Likeness distance up to which a face counts as a protected one. Stricter, so that few others are refused."""
MAX_CLOSED_EYE_OPENING: Final = 0.12  # opening of the wider eye; below it both count as closed
MIN_TURN_DEGREES: Final = 12.0  # yaw from the portrait's; beyond it a picture shows more of a cheek


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Result of an enrolment: the character, every picture's quality, and the index of the portrait's picture."""

    character: Character
    qualities: tuple[PictureQuality, ...]
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
    refer: ReferenceNetwork | None = None,
    quota: int = 0,
) -> Enrolled:
    """Enrol a person from one to five ``pictures`` (bytes of image files); the best one becomes the portrait.

    ``refer`` computes the identity vector (see :meth:`avatar_stream.runtime.networks.Networks.refer`). Raises
    :class:`BadInput`, :class:`BadPicture` with the number of the unusable picture, and :class:`Forbidden` if another
    owner protects this face.
    """
    name, tags, style = checked_name(name), checked_tags(tags), checked_style(style)
    description = checked_text(description, "a description")
    if not 1 <= len(pictures) <= MAX_SOURCES:
        raise BadInput(f"a character needs one to {MAX_SOURCES} pictures")
    agreed = checked_consent(consent, owner, time.time())
    portraits = [_prepared(data, number, len(pictures)) for number, data in enumerate(pictures, 1)]
    likenesses = [likeness_of(portrait) for portrait in portraits]
    _check_same_person(likenesses)
    for likeness in likenesses:
        refuse_protected(store, likeness, owner)
    qualities = tuple(assess_portrait(portrait) for portrait in portraits)
    shown = int(np.argmax([quality.score for quality in qualities]))
    best = portraits[shown]
    fit, fitter = fit_still(best.landmarks)
    quality = qualities[shown].report()
    seen = quality["attributes"] = attributes_of(best)
    if description:
        # Contradictions are reported, not refused: the user knows better than a classifier.
        quality["description"] = contradictions(seen, description)
        quality["unchecked"] = unchecked_topics(description)
    if style:
        quality["style_distance"] = round(likeness_distance(likenesses[shown], likeness_of(styled(best, style))), 3)
    character = Character(
        "", name, owner, agreed, time.time(), 0.0, tags, description, style, protected, quality,
        z_id=_identity_vector(best, refer),
        likeness=np.mean(likenesses, axis=0).astype(np.float32),
        shape=np.asarray(fitter.identity, np.float32),
        mood=fit.coefficients,
    )  # fmt: skip
    order = [shown, *(k for k in range(len(pictures)) if k != shown)]
    files = {f"source {number}": pictures[k] for number, k in enumerate(order)}
    return Enrolled(store.add(character, files, quota=quota), qualities, shown)


def described(store: Store, description: str) -> Character | None:
    """The character that fits a description best, by its texts and its picture's attributes; None if none fits."""
    found = [(_match_score(one, description), one) for one in store.characters()]
    best = max(found, key=lambda pair: pair[0], default=(0.0, None))
    return best[1] if best[0] > 0 else None


def _match_score(one: Character, description: str) -> float:
    text = " ".join((one.name, one.description, *one.tags))
    return match_score(one.quality.get("attributes", {}), text, description)


def portrait_of(store: Store, character: Character, size: int, *, square: bool = False) -> Portrait:
    """The character's portrait at ``size`` (see ``prepare``), from the library if it was prepared before."""
    kind = f"portrait {size}{' square' if square else ''}"
    digest = character.file(kind)
    if digest is not None:
        try:
            return unpack_portrait(store.read(digest))
        except (LibraryFault, BadPicture) as error:  # prepare it again from the picture
            log.warning("the prepared portrait of %s cannot be used: %s", character.name, error)
    source = character.file("source 0")
    if source is None:
        raise BadPicture(f"the picture of {character.name} is missing: enrol the person again")
    try:
        data = store.read(source)
    except LibraryFault as error:
        raise LibraryFault(f"the picture of {character.name} cannot be read: {error}") from error
    plain = prepare(read_picture(data), size, name=character.name, square=square)
    portrait = add_other_views(styled(plain, character.style), _other_portraits(store, character))
    try:
        store.attach(character.id, kind, pack_portrait(portrait))
    except LibraryFault as error:  # it is shown all the same, and prepared again next time
        log.warning("the prepared portrait of %s is not stored: %s", character.name, error)
    return portrait


def _other_portraits(store: Store, character: Character) -> list[Portrait]:
    """Portraits of the character's other pictures, in the character's style."""
    digests = [one.digest for one in character.files if one.kind.startswith("source ") and one.kind != "source 0"]
    return [styled(prepare(read_picture(store.read(digest)), ASSESSED_SIZE), character.style) for digest in digests]


def add_other_views(portrait: Portrait, others: Sequence[Portrait]) -> Portrait:
    """The portrait with parts that only other pictures of the same person show.

    These are the teeth, if the portrait's mouth is shut; the closed eyelids; and a cheek that the portrait hides.
    """

    def gap(one: Portrait) -> float:
        return float(geometry.lip_gaps(one.landmarks).max())

    def opening(one: Portrait) -> float:
        return max(geometry.eye_openings(one.landmarks))

    def yaw(one: Portrait) -> float:
        return geometry.euler_degrees(geometry.head_pose(one.landmarks).rotation)[1]

    def part(one: Portrait) -> tuple[Image, Floats]:
        return one.crop, one.landmarks

    laughing = max(others, key=gap, default=None) if gap(portrait) <= MIN_SHOWN_TEETH_GAP else None
    asleep = min(others, key=opening, default=None)
    turned = []
    for side in (1, -1):
        further = [one for one in others if side * (yaw(one) - yaw(portrait)) > MIN_TURN_DEGREES]
        if further:
            turned.append(max(further, key=lambda one: side * yaw(one)))
    return replace(
        portrait,
        teeth=part(laughing) if laughing is not None and gap(laughing) >= MIN_TEETH_GAP else None,
        asleep=part(asleep) if asleep is not None and opening(asleep) < MAX_CLOSED_EYE_OPENING else None,
        turned=tuple(part(one) for one in turned),
    )


def likeness_of(portrait: Portrait) -> npt.NDArray[np.float32]:
    """The likeness ``(128,)`` of a portrait at rest (see ``avatar_stream.identity.likeness``)."""
    return Likeness.shared().of(portrait.crop, portrait.landmarks)


def refuse_protected(store: Store, likeness: npt.NDArray[np.float32], owner: str) -> None:
    """Raise :class:`Forbidden`, with an audit entry, if another owner protects this face."""
    for one in store.protected():
        if one.owner != owner and likeness_distance(one.likeness, likeness) < MAX_PROTECTED_DISTANCE:
            store.note(owner, "refused", one.id, "a protected face")
            raise Forbidden("this face is protected: only its owner may use it here")


def pack_portrait(portrait: Portrait) -> bytes:
    """A prepared portrait as the bytes of an ``.npz`` file."""
    arrays: dict[str, Any] = {
        "picture": portrait.picture,
        "box": np.array(portrait.box, np.int32),
        "plate": portrait.plate,
        "matte": portrait.matte,
        "landmarks": portrait.landmarks,
    }
    if portrait.shoulders is not None:
        arrays["shoulders"] = portrait.shoulders
    others = {"teeth": portrait.teeth, "asleep": portrait.asleep}
    others |= {f"turned{k}": one for k, one in enumerate(portrait.turned)}
    for name, other in others.items():
        if other is not None:
            arrays[name], arrays[f"{name}_landmarks"] = other
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack_portrait(data: bytes) -> Portrait:
    """The portrait in bytes from :func:`pack_portrait`; raises :class:`BadPicture` for other bytes."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = dict(found)
        left, top, width, height = (int(value) for value in arrays["box"])
        picture, plate, matte = (arrays[name] for name in ("picture", "plate", "matte"))
        rows, columns = picture.shape[:2]
        inside = 0 <= left < left + width <= columns and 0 <= top < top + height <= rows
        if not inside or plate.shape != (height, width, 3) or matte.shape != (height, width):
            raise ValueError("box")

        def part(name: str) -> tuple[Image, Floats]:
            return _pixels(arrays[name]), _points(arrays[f"{name}_landmarks"], 478, 3)

        return Portrait(
            _pixels(picture),
            (left, top, width, height),
            _pixels(plate),
            np.asarray(matte, np.uint8),
            _points(arrays["landmarks"], 478, 3),
            _points(arrays["shoulders"], 2, 2) if "shoulders" in arrays else None,
            part("teeth") if "teeth" in arrays else None,
            part("asleep") if "asleep" in arrays else None,
            tuple(part(name) for name in ("turned0", "turned1") if name in arrays),
        )
    except Exception:  # numpy and zipfile raise many types for other bytes
        raise BadPicture("it is not a prepared portrait") from None


def _pixels(array: Any) -> Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError("not a picture")
    return np.asarray(array)


def _points(array: Any, rows: int, columns: int) -> Floats:
    if array.shape != (rows, columns) or not np.isfinite(array).all():
        raise ValueError("not points")
    return np.asarray(array, np.float32)


def as_jpeg(picture: Image, quality: int = 90) -> bytes:
    """An RGB picture as a JPEG file."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def _prepared(data: bytes, number: int, of: int) -> Portrait:
    try:
        return prepare(read_picture(data), ASSESSED_SIZE)
    except BadPicture as error:
        raise BadPicture(f"picture {number} of {of}: {error}" if of > 1 else str(error)) from None


def _check_same_person(likenesses: Sequence[npt.NDArray[np.float32]]) -> None:
    """Raise :class:`BadPicture` unless all pictures can show one person."""
    for a in range(len(likenesses)):
        for b in range(a + 1, len(likenesses)):
            if likeness_distance(likenesses[a], likenesses[b]) > MAX_SAME_PERSON_DISTANCE:
                raise BadPicture(
                    f"pictures {a + 1} and {b + 1} do not look like one person: enrol each person separately"
                )


def _identity_vector(portrait: Portrait, refer: ReferenceNetwork | None) -> npt.NDArray[np.float32]:
    """``z_id (512,)`` of length 1; empty without networks."""
    if refer is None:
        return np.zeros(0, np.float32)
    outputs = refer(rest_face(portrait.crop, portrait.landmarks).image)
    return np.zeros(0, np.float32) if outputs is None else np.asarray(outputs["z_id"].ravel(), np.float32)
