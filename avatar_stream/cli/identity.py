"""``avatar-stream identity``: enrol, list, show, rename, remove, export and import characters."""

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
    """Add the subcommands to ``parser``."""
    commands = parser.add_subparsers(required=True, metavar="ACTION")

    def command(name: str, help: str, run: Callable[[argparse.Namespace, Store], Any]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help)
        made.add_argument(
            "--library", type=Path, default=default_library(), help="folder of the library (%(default)s)"
        )
        made.add_argument("--json", action="store_true", help="print JSON")
        made.set_defaults(run=lambda arguments: _with_store(arguments, run))
        return made

    add = command("add", "enrol a person from one to five pictures", _add)
    add.add_argument("pictures", type=Path, nargs="+", help="JPEG, PNG or WebP pictures of the same person")
    add.add_argument("--name", required=True)
    add.add_argument(
        "--consent", required=True, metavar="STATEMENT", help="a sentence that says with what right this face is used"
    )
    add.add_argument("--tag", action="append", default=[], help="may be given more than once")
    add.add_argument("--description", default="", help="words by which find can find the person")
    add.add_argument("--style", default="", help="style of the portrait: oil, ink, comic, neon or film")
    add.add_argument("--protect", action="store_true", help="only the owner may enrol or upload this face here")

    listing = command("list", "list the characters", _list)
    listing.add_argument("text", nargs="?", default="", help="only those with this text in name, tags or description")
    listing.add_argument("--tag", default="")

    find = command("find", "find the character that fits a description best", _find)
    find.add_argument("description", help='words, such as "a man with glasses in a red jacket"')

    show = command("show", "show a character's record and identity card", _show)
    show.add_argument("who", help="id or name")
    show.add_argument("-o", "--output", type=Path, help="PNG file for the identity card")

    rename = command("rename", "rename a character", _rename)
    rename.add_argument("who", help="id or name")
    rename.add_argument("name")

    remove = command("remove", "delete a character permanently", _remove)
    remove.add_argument("who", help="id or name")

    export = command("export", "write a character to a signed file", _export)
    export.add_argument("who", help="id or name")
    export.add_argument("-o", "--output", type=Path, required=True)

    take = command("import", "add a character from an exported file", _import)
    take.add_argument("file", type=Path)
    take.add_argument("--name", default="", help="another name here, for example if theirs is taken")

    audit = command("audit", "show who used which character, and when", _audit)
    audit.add_argument("--last", type=whole_number(1, 100_000), default=50)

    command("check", "look for damage in the library", _check)


def _with_store(arguments: argparse.Namespace, run: Callable[[argparse.Namespace, Store], Any]) -> None:
    store = Store(arguments.library)
    try:
        run(arguments, store)
    finally:
        store.close()


def _add(arguments: argparse.Namespace, store: Store) -> None:
    from avatar_stream.identity.enrol import enrol
    from avatar_stream.runtime.networks import Networks

    result = enrol(
        store,
        [_bytes(path) for path in arguments.pictures],
        name=arguments.name,
        consent=arguments.consent,
        owner=account_name(),
        tags=arguments.tag,
        description=arguments.description,
        style=arguments.style,
        protected=arguments.protect,
        refer=lambda face: Networks().refer(face),  # loaded only after the pictures are accepted
    )
    if arguments.json:
        print(json.dumps(result.report()))
        return
    print(f"{result.character.name} is enrolled as {result.character.id}")
    for path, quality in zip(arguments.pictures, result.qualities, strict=True):
        shown = (
            ", used as the portrait"
            if path == arguments.pictures[result.shown] and len(arguments.pictures) > 1
            else ""
        )
        print(f"{escaped(path.name)}: {quality.score:.0%}{shown}")
        for sentence in quality.advice:
            print(f"  {sentence}")
    for sentence in result.character.quality.get("description", []):
        print(sentence)
    if left := result.character.quality.get("unchecked"):
        print(f"not checked in the pictures: {', '.join(left)}")


def _list(arguments: argparse.Namespace, store: Store) -> None:
    found, faults = store.listed(text=arguments.text, tag=arguments.tag)
    for fault in faults:
        print(f"avatar-stream: {fault}", file=sys.stderr)
    if arguments.json:
        print(json.dumps([one.public() for one in found]))
        return
    for one in found:
        extra = "".join(f"  {part}" for part in (", ".join(one.tags), one.style, "protected" * one.protected) if part)
        print(f"{one.id}  {one.name}{extra}")
    if not found and not faults:
        print(
            "no characters yet: avatar-stream identity add PICTURE --name NAME --consent STATEMENT", file=sys.stderr
        )


def _find(arguments: argparse.Namespace, store: Store) -> None:
    from avatar_stream.identity.attributes import unchecked_topics
    from avatar_stream.identity.enrol import described

    one = described(store, arguments.description)
    if arguments.json:
        print(
            json.dumps({"found": one.public() if one else None, "unchecked": unchecked_topics(arguments.description)})
        )
        return
    print(f"{one.id}  {one.name}" if one else "no character fits this description")
    if left := unchecked_topics(arguments.description):
        print(f"not checked in the pictures: {', '.join(left)}", file=sys.stderr)


def _show(arguments: argparse.Namespace, store: Store) -> None:
    one = store.find(arguments.who)
    if arguments.output is not None:
        from avatar_stream.identity.card import as_png, identity_card
        from avatar_stream.identity.enrol import portrait_of

        if arguments.output.suffix.lower() != ".png":
            raise BadInput(f"the card must be a PNG file: name it {arguments.output.with_suffix('.png').name}")
        card = identity_card(one, portrait_of(store, one, 384, square=True).picture)
        _write(arguments.output, as_png(card))
    if arguments.json:
        print(json.dumps(one.public()))
        return
    print("\n".join(character_sentences(one)))
    if arguments.output is not None:
        print(f"The identity card is in {escaped(str(arguments.output))}.")


def character_sentences(one: Character) -> list[str]:
    """The record in sentences, for the terminal."""
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
        lines.append(f"Style: {one.style}.")
    if one.protected:
        lines.append("Protected: only the owner may enrol or upload this face here.")
    if isinstance(one.quality.get("score"), float | int):
        lines.append(f"Quality of the picture as a portrait: {one.quality['score']:.0%}.")
    lines += [f"  {sentence}" for sentence in one.quality.get("advice", [])]
    if one.settings:
        settings = [
            f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in one.settings.items()
        ]
        lines.append(f"Saved settings: {'; '.join(settings)}.")
    return lines


def _rename(arguments: argparse.Namespace, store: Store) -> None:
    one = store.find(arguments.who)
    print(f"{one.name} is now called {store.rename(one.id, arguments.name, who=account_name())}")


def _remove(arguments: argparse.Namespace, store: Store) -> None:
    id, name = store.named(arguments.who)
    store.remove(id, who=account_name())
    print(f"{name} ({id}) was deleted, with all pictures")


def _export(arguments: argparse.Namespace, store: Store) -> None:
    from avatar_stream.identity.export_import import EXPORT_SUFFIX, export_character, fingerprint, library_key

    if arguments.output.suffix != EXPORT_SUFFIX:
        name = arguments.output.with_suffix(EXPORT_SUFFIX).name
        raise BadInput(f"an exported character must be a {EXPORT_SUFFIX} file: name it {name}")
    one = store.find(arguments.who)
    _write(arguments.output, export_character(store, one, account_name()))
    print(f"{escaped(str(arguments.output))}: {one.name}, signed by {fingerprint(library_key(store).public_key())}")


def _import(arguments: argparse.Namespace, store: Store) -> None:
    from avatar_stream.identity.export_import import import_character

    try:
        result = import_character(store, _bytes(arguments.file), owner=account_name(), name=arguments.name)
    except NameTaken as error:
        raise NameTaken(f"{error}, with --name") from None
    if arguments.json:
        print(json.dumps(result.character.public() | {"signed_by": result.signed_by}))
        return
    print(f"{result.character.name} was imported as {result.character.id}, signed by {result.signed_by}")


def _audit(arguments: argparse.Namespace, store: Store) -> None:
    for line in store.uses(arguments.last):
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line.at))
        if arguments.json:
            print(json.dumps({"at": line.at, "who": line.who, "action": line.action, "id": line.character,
                              "detail": line.detail}))  # fmt: skip
        else:
            print(f"{at}  {line.who}  {line.action}  {line.character}  {line.detail}")


def _check(arguments: argparse.Namespace, store: Store) -> None:
    found = store.problems()
    if arguments.json:
        print(json.dumps(found))
    for sentence in found if not arguments.json else []:
        print(sentence)
    if not found and not arguments.json:
        print("no damage found")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from None


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically, so that a reader never sees a part of it."""
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
