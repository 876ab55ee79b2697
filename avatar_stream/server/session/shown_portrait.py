"""What a session shows: a portrait of the library, its background, and what else a character is kept with."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from avatar_stream.face.expression import Expression
from avatar_stream.identity.records import Character
from avatar_stream.identity.store import CHARACTER_ID_PREFIX
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.background import OWN_BACKGROUND, UPLOADED_BACKGROUND_PREFIX, on_background
from avatar_stream.portrait.portrait import Portrait


class PortraitSource(Protocol):
    """What a session asks of the library (see :class:`avatar_stream.identity.library.Library`)."""

    @property
    def keeps(self) -> bool: ...

    def get(self, key: str, owner: str | None = None) -> Portrait: ...

    def background(self, key: str, owner: str | None = None) -> npt.NDArray[np.uint8]: ...

    def character(self, key: str, owner: str | None) -> Character: ...

    def used(self, key: str, who: str, how: str) -> None: ...


class ShownPortrait:
    """One session's. ``owner`` is whose characters it may show (None: everybody's), ``who`` and ``how`` go into the
    audit, ``keep`` is how much of a mood stays unless a character says otherwise.
    """

    def __init__(
        self,
        library: PortraitSource,
        portrait: str,
        keep: float,
        who: str,
        how: str,
        *,
        background: str = OWN_BACKGROUND,
        owner: str | None = None,
    ) -> None:
        self.portrait, self.background, self.owner = portrait, background, owner
        self._library, self._keep, self._who, self._how = library, keep, who, how
        self._character_settings: Mapping[str, Any] = {}

    def choose(self, key: str) -> Portrait:
        """Show another portrait and write a character's use down; raises ``UnknownPortrait``. Takes a moment."""
        before, brought = self._character_settings, self._settings(key)
        # What a character came with goes with it.
        own = OWN_BACKGROUND if "background" in before else self.background
        background = brought.get("background", own)
        portrait = self._before(key, background)
        self.portrait, self.background, self._character_settings = key, background, brought
        return portrait

    def set_background(self, background: str) -> Portrait:
        """Show the portrait before another background; raises ``UnknownPortrait``. Takes a moment."""
        portrait = self._before(self.portrait, background)
        self.background = background
        return portrait

    def open(self) -> Portrait:
        """The portrait that a session begins with; a background that was asked for counts for more than its own."""
        asked = self.background
        portrait = self.choose(self.portrait)
        return portrait if asked in (OWN_BACKGROUND, self.background) else self.set_background(asked)

    def apply_settings(self, avatar: Avatar) -> None:
        """Give an avatar the settings of the character, and what is usual for the rest."""
        avatar.set_keep(self._character_settings.get("keep", self._keep))
        avatar.set_expression(Expression.from_json(self._character_settings.get("expression", {})))

    @property
    def has_settings(self) -> bool:
        """The character has settings of its own."""
        return bool(self._character_settings)

    def _settings(self, key: str) -> Mapping[str, Any]:
        if not self._library.keeps or not key.startswith(CHARACTER_ID_PREFIX):
            return {}
        found = self._library.character(key, self.owner)
        self._library.used(key, self._who, self._how)
        return found.settings

    def _before(self, key: str, background: str) -> Portrait:
        portrait = self._library.get(key, self.owner)
        uploaded = background.startswith(UPLOADED_BACKGROUND_PREFIX)
        return on_background(portrait, self._library.background(background, self.owner) if uploaded else background)
