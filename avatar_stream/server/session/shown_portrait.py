"""What a session shows: a portrait of the library, its background, and the character's settings."""

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
    """The part of the library that a session uses (see :class:`avatar_stream.identity.library.Library`)."""

    @property
    def keeps_characters(self) -> bool: ...

    def get(self, key: str, owner: str | None = None) -> Portrait: ...

    def background(self, key: str, owner: str | None = None) -> npt.NDArray[np.uint8]: ...

    def character(self, key: str, owner: str | None) -> Character: ...

    def record_use(self, key: str, who: str, how: str) -> None: ...


class ShownPortrait:
    """The portrait of one session. ``owner`` owns the characters it may show (None: all owners). ``who`` and ``how``
    go into the audit log. ``keep`` is the share of a portrait's expression that stays, unless a character sets it.
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
        """Show another portrait, and log the use of a character; raises ``UnknownPortrait``. Blocks for a moment."""
        old, new = self._character_settings, self._settings(key)
        # A background that the previous character set does not stay.
        current = OWN_BACKGROUND if "background" in old else self.background
        background = new.get("background", current)
        portrait = self._on_background(key, background)
        self.portrait, self.background, self._character_settings = key, background, new
        return portrait

    def set_background(self, background: str) -> Portrait:
        """Show the portrait on another background; raises ``UnknownPortrait``. Blocks for a moment."""
        portrait = self._on_background(self.portrait, background)
        self.background = background
        return portrait

    def open(self) -> Portrait:
        """The first portrait of a session; a requested background overrides the character's own."""
        requested = self.background
        portrait = self.choose(self.portrait)
        return portrait if requested in (OWN_BACKGROUND, self.background) else self.set_background(requested)

    def apply_settings(self, avatar: Avatar) -> None:
        """Apply the character's settings to an avatar, and defaults for the rest."""
        avatar.set_keep(self._character_settings.get("keep", self._keep))
        avatar.set_expression(Expression.from_json(self._character_settings.get("expression", {})))

    @property
    def has_settings(self) -> bool:
        """Whether the character has its own settings."""
        return bool(self._character_settings)

    def _settings(self, key: str) -> Mapping[str, Any]:
        if not self._library.keeps_characters or not key.startswith(CHARACTER_ID_PREFIX):
            return {}
        found = self._library.character(key, self.owner)
        self._library.record_use(key, self._who, self._how)
        return found.settings

    def _on_background(self, key: str, background: str) -> Portrait:
        portrait = self._library.get(key, self.owner)
        uploaded = background.startswith(UPLOADED_BACKGROUND_PREFIX)
        return on_background(portrait, self._library.background(background, self.owner) if uploaded else background)
