"""``avatar-stream identity``: people as records: enrol, look, rename, remove, carry to another library."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avatar_stream.cli.arguments import whole_number
from avatar_stream.errors import BadInput, NameTaken
from avatar_stream.identity.records import Character, account_name, default_library
from avatar_stream.identity.store import Store
from avatar_stream.identity.visible_text import escaped, format_date


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with the library."""
    commands = parser.add_subparsers(required=True, metavar="ACTION")

    def command(name: str, help: str, run: Callable[[argparse.Namespace, Store], Any]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help)
        made.add_argument("--library", type=Path, default=default_library(), help="folder of it (%(default)s)")
        made.add_argument("--json", action="store_true", help="print JSON")
        made.set_defaults(run=lambda given: _with_store(given, run))
        return made

    add = command("add", "enrol a person from one to five pictures", _add)
    add.add_argument("pictures", type=Path, nargs="+", help="JPEG, PNG or WebP of the same person")
    add.add_argument("--name", required=True)
    add.add_argument(
        "--consent", required=True, metavar="STATEMENT", help="with what right this face is used, in a sentence"
    )
    add.add_argument("--tag", action="append", default=[], help="may be given more than once")
    add.add_argument("--description", default="", help="in words, to find them by")
    add.add_argument("--style", default="", help="another look: oil, ink, comic, neon or film")
    add.add_argument("--protect", action="store_true", help="nobody else may enrol or upload this face here")

    listing = command("list", "show who there is", _list)
    listing.add_argument("text", nargs="?", default="", help="only those with this in name, tags or description")
    listing.add_argument("--tag", default="")

    find = command("find", "who fits a description best", _find)
    find.add_argument("description", help='in words, as "a man with glasses in a red jacket"')

    show = command("show", "what is known of one, and their identity card", _show)
    show.add_argument("who", help="id or name")
    show.add_argument("-o", "--output", type=Path, help="PNG to write the card to")

    rename = command("rename", "give one another name", _rename)
    rename.add_argument("who", help="id or name")
    rename.add_argument("name")

    remove = command("remove", "remove one for good", _remove)
    remove.add_argument("who", help="id or name")

    export = command("export", "write one to a signed file", _export)
    export.add_argument("who", help="id or name")
    export.add_argument("-o", "--output", type=Path, required=True)

    take = command("import", "take one in from such a file", _import)
    take.add_argument("file", type=Path)
    take.add_argument("--name", default="", help="call them so here, where their own name is taken")

    audit = command("audit", "who used whom, and when", _audit)
    audit.add_argument("--last", type=whole_number(1, 100_000), default=50)

    command("check", "look for damage", _check)


def _with_store(given: argparse.Namespace, run: Callable[[argparse.Namespace, Store], Any]) -> None:
    store = Store(given.library)
    try:
        run(given, store)
    finally:
        store.close()


def _add(given: argparse.Namespace, store: Store) -> None:
    from avatar_stream.identity.enrol import enrol
    from avatar_stream.runtime.networks import Networks

    done = enrol(
        store,
        [_bytes(path) for path in given.pictures],
        name=given.name,
        consent=given.consent,
        owner=account_name(),
        tags=given.tag,
        description=given.description,
        style=given.style,
        protected=given.protect,
        refer=lambda face: Networks().refer(face),  # loaded once the pictures have been found good
    )
    if given.json:
        print(json.dumps(done.report()))
        return
    print(f"{done.character.name} is enrolled as {done.character.id}")
    for path, quality in zip(given.pictures, done.qualities, strict=True):
        shown = ", the one that is shown" if path == given.pictures[done.shown] and len(given.pictures) > 1 else ""
        print(f"{escaped(path.name)}: {quality.score:.0%}{shown}")
        for sentence in quality.advice:
            print(f"  {sentence}")
    for sentence in done.character.quality.get("description", []):
        print(sentence)
    if left := done.character.quality.get("unchecked"):
        print(f"not checked in the picture: {', '.join(left)}")


def _list(given: argparse.Namespace, store: Store) -> None:
    found, faults = store.listed(text=given.text, tag=given.tag)
    for fault in faults:
        print(f"avatar-stream: {fault}", file=sys.stderr)
    if given.json:
        print(json.dumps([one.public() for one in found]))
        return
    for one in found:
        extra = "".join(f"  {part}" for part in (", ".join(one.tags), one.style, "protected" * one.protected) if part)
        print(f"{one.id}  {one.name}{extra}")
    if not found and not faults:
        print("nobody yet: avatar-stream identity add PICTURE --name NAME --consent STATEMENT", file=sys.stderr)


def _find(given: argparse.Namespace, store: Store) -> None:
    from avatar_stream.identity.attributes import unchecked_topics
    from avatar_stream.identity.enrol import described

    one = described(store, given.description)
    if given.json:
        print(json.dumps({"found": one.public() if one else None, "unchecked": unchecked_topics(given.description)}))
        return
    print(f"{one.id}  {one.name}" if one else "nobody here fits this description")
    if left := unchecked_topics(given.description):
        print(f"not looked at in pictures: {', '.join(left)}", file=sys.stderr)


def _show(given: argparse.Namespace, store: Store) -> None:
    one = store.find(given.who)
    if given.output is not None:
        from avatar_stream.identity.card import as_png, identity_card
        from avatar_stream.identity.enrol import portrait_of

        if given.output.suffix.lower() != ".png":
            raise BadInput(f"the card is a PNG file: name it {given.output.with_suffix('.png').name}")
        card = identity_card(one, portrait_of(store, one, 384, square=True).picture)
        _write(given.output, as_png(card))
    if given.json:
        print(json.dumps(one.public()))
        return
    print("\n".join(character_sentences(one)))
    if given.output is not None:
        print(f"The identity card is in {escaped(str(given.output))}.")


def character_sentences(one: Character) -> list[str]:
    """What a record says, in sentences."""
    consent = one.consent
    used = f"last used on {format_date(one.used)}" if one.used else "not used yet"
    lines = [
        f"{one.name} ({one.id}) was enrolled on {format_date(one.created)} and belongs to {one.owner}; {used}.",
        f'Consent: "{consent.statement}", said by {consent.by} on {format_date(consent.at)}.',
    ]
    if one.tags:
        lines.append(f"Tags: {', '.join(one.tags)}.")
    if one.description:
        lines.append(f"Description: {one.description}")
    if one.style:
        lines.append(f"Shown in the look {one.style}.")
    if one.protected:
        lines.append("Protected: nobody else may enrol or upload this face here.")
    if isinstance(one.quality.get("score"), float | int):
        lines.append(f"How well the picture serves as a portrait: {one.quality['score']:.0%}.")
    lines += [f"  {sentence}" for sentence in one.quality.get("advice", [])]
    if one.settings:
        said = [
            f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in one.settings.items()
        ]
        lines.append(f"Saved settings: {'; '.join(said)}.")
    return lines


def _rename(given: argparse.Namespace, store: Store) -> None:
    one = store.find(given.who)
    print(f"{one.name} is called {store.rename(one.id, given.name, who=account_name())} now")


def _remove(given: argparse.Namespace, store: Store) -> None:
    id, name = store.named(given.who)
    store.remove(id, who=account_name())
    print(f"{name} ({id}) is removed, pictures and all")


def _export(given: argparse.Namespace, store: Store) -> None:
    from avatar_stream.identity.export_import import EXPORT_SUFFIX, export_character, fingerprint, library_key

    if given.output.suffix != EXPORT_SUFFIX:
        raise BadInput(
            f"an exported character is a {EXPORT_SUFFIX} file: name it {given.output.with_suffix(EXPORT_SUFFIX).name}"
        )
    one = store.find(given.who)
    _write(given.output, export_character(store, one, account_name()))
    print(f"{escaped(str(given.output))}: {one.name}, signed by {fingerprint(library_key(store).public_key())}")


def _import(given: argparse.Namespace, store: Store) -> None:
    from avatar_stream.identity.export_import import import_character

    try:
        done = import_character(store, _bytes(given.file), owner=account_name(), name=given.name)
    except NameTaken as error:
        raise NameTaken(f"{error}, with --name") from None
    if given.json:
        print(json.dumps(done.character.public() | {"signed_by": done.signed_by}))
        return
    print(f"{done.character.name} is here as {done.character.id}, signed by {done.signed_by}")


def _audit(given: argparse.Namespace, store: Store) -> None:
    for line in store.uses(given.last):
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line.at))
        if given.json:
            print(json.dumps({"at": line.at, "who": line.who, "action": line.action, "id": line.character,
                              "detail": line.detail}))  # fmt: skip
        else:
            print(f"{at}  {line.who}  {line.action}  {line.character}  {line.detail}")


def _check(given: argparse.Namespace, store: Store) -> None:
    found = store.problems()
    if given.json:
        print(json.dumps(found))
    for sentence in found if not given.json else []:
        print(sentence)
    if not found and not given.json:
        print("the library is sound")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from None


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: whoever waits for it finds no half of it."""
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with open(unfinished, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from None
