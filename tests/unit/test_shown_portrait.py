"""A character's settings apply while it is shown, and no longer."""

import numpy as np
import pytest

from avatar_stream.errors import UnknownPortrait
from avatar_stream.face.expression import Expression
from avatar_stream.identity.enrol import enrol
from avatar_stream.identity.library import Library, sample_pictures
from avatar_stream.identity.store import Store
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.server.session.shown_portrait import ShownPortrait

CHARACTER_SETTINGS = {"background": "#00ff00", "keep": 0.7, "expression": {"hold": ["smile"]}}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(size=256, uploads=2, store=Store(tmp_path_factory.mktemp("library")))


@pytest.fixture(scope="module")
def ana(library: Library) -> str:
    picture = sample_pictures()["felix"].read_bytes()
    about = {"name": "Ana", "consent": "An average of two dozen people", "owner": "me"}
    key = enrol(library.store, [picture], **about).character.id  # type: ignore[arg-type]
    library.store.set_settings(key, CHARACTER_SETTINGS, who="me")
    return key


def shown_portrait(library: Library, portrait: str) -> ShownPortrait:
    return ShownPortrait(library, portrait, 0.2, "guest", "session x")


def test_a_characters_settings_apply_while_it_is_shown(library: Library, ana: str) -> None:
    here = shown_portrait(library, "noor")
    with Avatar(here.open(), None) as avatar:
        here.apply_settings(avatar)
        assert (avatar.keep, here.background, here.has_settings) == (0.2, "own", False)
        portrait = here.choose(ana)
        here.apply_settings(avatar)
        assert np.array_equal(portrait.picture[2, 2], [0, 255, 0])
        assert avatar.keep == pytest.approx(0.7)
        assert avatar._animator.expression.hold == {"smile"}
        here.choose("noor")
        here.apply_settings(avatar)
        assert (avatar.keep, here.background) == (0.2, "own")
        assert avatar._animator.expression == Expression()
    line = library.store.uses()[0]
    assert (line.who, line.action, line.detail) == ("guest", "use", "session x")


def test_a_chosen_background_stays_with_another_character(library: Library, ana: str) -> None:
    here = shown_portrait(library, ana)
    here.background = "#0000ff"
    assert np.array_equal(here.open().picture[2, 2], [0, 0, 255])
    assert here.background == "#0000ff"


def test_a_failed_choice_changes_nothing(library: Library, ana: str) -> None:
    here = shown_portrait(library, "noor")
    here.open()
    here.owner = "somebody else"
    for key in (ana, "c-nobody"):
        with pytest.raises(UnknownPortrait):
            here.choose(key)
    with pytest.raises(UnknownPortrait):
        here.set_background("b-" + "x" * 16)
    assert (here.portrait, here.background) == ("noor", "own")
