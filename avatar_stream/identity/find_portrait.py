"""The portrait that a command's argument names: a picture file, a shipped sample, or an enrolled character."""

from pathlib import Path

from avatar_stream.errors import BadPicture, UnknownPortrait
from avatar_stream.identity.enrol import portrait_of
from avatar_stream.identity.library import sample_pictures
from avatar_stream.identity.records import account_name
from avatar_stream.identity.store import Store
from avatar_stream.portrait.portrait import Portrait


def find_portrait(name: str, size: int, *, square: bool = False, library: Path, use: str) -> Portrait:
    """The portrait called ``name``: a path, a sample's name, or a character of the folder ``library``.

    For a character, ``use`` is written to the audit. Raises :class:`BadPicture` if nothing has this name.
    """
    path = Path(name)
    if not path.exists() and name in sample_pictures():
        path = sample_pictures()[name]
    if path.exists():
        return Portrait.open(path, size, square=square)
    samples = ", ".join(sample_pictures())
    if path.suffix or len(path.parts) > 1:  # it looks like a path
        raise BadPicture(
            f"cannot read {name}: no such file. A sample's name ({samples}) works too, and an enrolled character's"
        )
    if (library / "library.db").exists():
        store = Store(library)
        try:
            character = store.find(name)
            store.use(character.id, account_name(), use)
            return portrait_of(store, character, size, square=square)
        except UnknownPortrait:
            pass
        finally:
            store.close()
    raise BadPicture(f"there is no picture {name}, no enrolled character of this name, and no sample: {samples}")
