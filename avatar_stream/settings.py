"""The settings of the server: default, unit, meaning and range of each.

The fields of :class:`Settings` define the flags of ``avatar-stream serve`` (``connect_timeout`` is
``--connect-timeout``), the environment variables (``AVATAR_STREAM_CONNECT_TIMEOUT``), the keys of a settings file,
the checks of all three, and ``docs/settings.md`` (a test compares that page with this file).
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from avatar_stream.errors import BadInput
from avatar_stream.face.retarget import DEFAULT_KEEP
from avatar_stream.media.marking import DEFAULT_LABEL_TEXT, LABEL_POSITIONS
from avatar_stream.runtime.choose import RUNTIMES
from avatar_stream.typed_input import OneOf, schema_of

ENGINES: Final = ("auto", *RUNTIMES, "warp")
ENVIRONMENT_PREFIX: Final = "AVATAR_STREAM_"
SECRET_VARIABLES: Final = ("TOKEN", "TURN_SECRET", "C2PA_CERT", "C2PA_KEY")
"""Environment variables (with the prefix) that are no settings. The code that needs one reads it itself."""

_processors = os.cpu_count() or 2


def setting(default: Any, what: str, low: float | None = None, high: float | None = None, group: str = "") -> Any:
    """A field of :class:`Settings`: its default, meaning, range, and group in the documentation."""
    return Field(default, description=what, ge=low, le=high, json_schema_extra={"group": group})


def _even(side: int) -> int:
    if side % 2:
        raise ValueError("an even number is needed")
    return side


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of ``avatar-stream serve``. Tuples are flags that may be given more than once.

    Raises ``pydantic.ValidationError`` for a value of another type or out of range, and for an unknown name.
    """

    host: str = setting("127.0.0.1", "address to listen on", group="server")
    port: int = setting(8080, "port to listen on, 0 for a free one", 0, 65535, "server")
    size: Annotated[int, AfterValidator(_even)] = setting(
        384, "side of the avatar, pixels, even", 128, 2048, "server"
    )
    fps: int = setting(25, "avatar frames a second", 1, 60, "server")
    engine: Annotated[str, OneOf(ENGINES)] = setting(
        "auto", "runtime and precision of the networks; warp: no networks, the warped portrait alone", group="server"
    )
    # With one thread a tick takes 10 of the 40 ms of a frame; other sessions need the other cores.
    threads: int = setting(min(2, max(1, _processors // 2)), "threads of each network", 1, 256, "server")
    processes: int = setting(
        _processors if _processors > 1 else 0,
        "processes for sessions, each started on demand; 0: sessions run in the server's process",
        0, 256, "server",
    )  # fmt: skip
    keep_expression: float = setting(
        DEFAULT_KEEP,
        "share of a portrait's own smile or frown that stays, until the page changes it",
        0,
        1,
        "server",
    )
    frame_marks: bool = setting(
        False, "copy frame numbers from camera frames to avatar pictures, to measure latency", group="server"
    )
    library: str = setting(
        "", "folder of enrolled characters (default of the command: the account's folder)", group="server"
    )
    log: Annotated[str, OneOf(("text", "json"))] = setting(
        "text", "format of log lines: text or json", group="server"
    )
    drain: float = setting(10.0, "seconds that sessions have to leave when the server stops", 0, 3600, "server")

    label: str = setting(
        DEFAULT_LABEL_TEXT, "text of the label on every picture, which says that it is generated", group="marking"
    )
    label_position: Annotated[str, OneOf(LABEL_POSITIONS)] = setting(
        LABEL_POSITIONS[0], "corner of the label", group="marking"
    )
    unlabelled: str = setting("", "show no label, for this reason, which is logged", group="marking")
    watermark: bool = setting(True, "add the invisible mark that avatar-stream inspect finds", group="marking")

    tokens: str = setting("", "file of bearer tokens, as avatar-stream token writes it", group="access")
    certificate: str = setting("", "PEM file: serve https", group="access")
    private_key: str = setting("", "PEM file of the certificate's key", group="access")
    allow_host: tuple[str, ...] = setting(
        (), "host name that clients may use for the server (default: any)", group="access"
    )
    allow_origin: tuple[str, ...] = setting((), "origin of another web site that may use this server", group="access")
    allow_private: bool = setting(
        False,
        "send media to private and link-local addresses of peers (always on a loopback server)",
        group="access",
    )
    trust_proxy: tuple[str, ...] = setting((), "address of a proxy whose X-Forwarded-For is trusted", group="access")
    link_minutes: int = setting(
        720, "minutes that a viewer's link works, at most; it also ends with its session", 1, 100_000, "access"
    )

    turn: tuple[str, ...] = setting((), "TURN server for clients, as turn:HOST:PORT?transport=udp", group="TURN")
    turn_secret_file: str = setting("", "file with the secret shared with the TURN server", group="TURN")
    turn_minutes: int = setting(120, "minutes that TURN credentials are valid", 1, 1440, "TURN")

    sessions: int = setting(
        0, "sessions at the same time, at most; 0: the measured capacity of this machine", 0, 1000, "limits"
    )
    sessions_per_address: int = setting(4, "sessions of one address", 1, 1000, "limits")
    viewers: int = setting(32, "viewers of one session", 0, 1000, "limits")
    viewers_per_address: int = setting(16, "viewers of one address", 1, 1000, "limits")
    half_open: int = setting(16, "connections that are being set up", 1, 1000, "limits")
    half_open_per_address: int = setting(6, "connections that one address is setting up", 1, 1000, "limits")
    connections_per_address: int = setting(64, "HTTP connections of one address", 1, 10_000, "limits")
    header_timeout: float = setting(10.0, "seconds a request's headers may take", 0.1, 600, "limits")
    body_timeout: float = setting(20.0, "seconds a request's body may take", 0.1, 600, "limits")
    connect_timeout: float = setting(
        15.0, "seconds from the SDP answer until the peer is connected", 0.1, 600, "limits"
    )
    control_timeout: float = setting(8.0, "seconds a page may be without its control channel", 0.1, 600, "limits")
    silence_timeout: float = setting(60.0, "seconds a session may be without video", 1, 86_400, "limits")
    watchdog: float = setting(
        5.0,
        "seconds a frame may take before its engine is replaced; after twice that its session ends",
        0.5,
        600,
        "limits",
    )
    max_offer: int = setting(64 * 1024, "bytes of an SDP offer", 1024, 1 << 20, "limits")
    max_lines: int = setting(1500, "lines of an SDP offer", 20, 10_000, "limits")
    max_sections: int = setting(3, "media sections of an SDP offer", 1, 10, "limits")
    max_candidates: int = setting(32, "ICE candidates of a peer, trickled ones included", 0, 1000, "limits")
    max_fragment: int = setting(16 * 1024, "bytes of a trickle fragment", 256, 1 << 20, "limits")
    max_message: int = setting(4096, "characters of a control message", 128, 1 << 20, "limits")
    message_rate: int = setting(30, "control messages a second", 1, 1000, "limits")
    motion_rate: int = setting(120, "frames of motion a second, sent in place of camera frames", 1, 1000, "limits")
    max_upload: int = setting(24 * 1024 * 1024, "bytes of an uploaded picture", 1024, 1 << 30, "limits")
    uploads: int = setting(32, "uploaded portraits that are kept; a new one replaces the oldest", 1, 10_000, "limits")
    characters_per_owner: int = setting(100, "enrolled characters of one token, at most", 1, 100_000, "limits")
    offers_per_minute: int = setting(
        120,
        "new sessions and viewers of one address a minute, at most a twelfth of them at once",
        2,
        100_000,
        "limits",
    )
    uploads_per_minute: int = setting(
        30, "uploaded pictures of one address a minute, at most half of them at once", 2, 10_000, "limits"
    )
    uploads_at_once: int = setting(2, "uploads processed at the same time", 1, 100, "limits")

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the server: it listens on loopback, without proxy and ``allow_host``."""
        return self.host in ("127.0.0.1", "localhost", "::1") and not self.trust_proxy and not self.allow_host

    @property
    def private_allowed(self) -> bool:
        """Whether media may be sent to private addresses."""
        return self.allow_private or self.loopback


def settings_schema() -> dict[str, Any]:
    """JSON Schema of each setting by its name: type, default, range, description, group."""
    properties: dict[str, Any] = schema_of(Settings)["properties"]
    return properties


def load_settings(given: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None) -> Settings:
    """Settings from the command line (``given``), the environment and a TOML file; the first one with a value wins.

    In the environment, commas separate several values of one setting. Raises :class:`BadInput` for an unknown name or
    a value out of range; its text names the setting and its source.
    """
    schemas = settings_schema()
    from_file, from_environment = _read_file(file) if file else {}, _read_environment(environment)
    origins = {name: f"{name} in {file}" for name in from_file}
    origins |= {name: ENVIRONMENT_PREFIX + name.upper() for name in from_environment}
    origins |= {name: "--" + name.replace("_", "-") for name in given}
    values = from_file | from_environment | dict(given)
    for name, value in values.items():
        if name not in schemas:
            near = difflib.get_close_matches(name, schemas, 1)
            hint = f"is it {near[0]}?" if near else "see docs/settings.md"
            raise BadInput(f"{origins[name]} is no setting: {hint}")
        if isinstance(value, bool) and schemas[name]["type"] != "boolean":
            raise BadInput(f"{origins[name]}: {_expected(name, 'this setting is not true or false')}")
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise BadInput(f"{origins.get(name, name)}: {_expected(name, first['msg'])}") from None


def _expected(name: str, message: str) -> str:
    schema = settings_schema()[name]
    if "minimum" in schema:
        even = "an even number" if name == "size" else "a whole number" if schema["type"] == "integer" else "a number"
        return f"{even} from {schema['minimum']:g} to {schema['maximum']:g} is needed"
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])} is needed"
    return message[0].lower() + message[1:]


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} is no TOML file: {error}") from None


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    several = {name for name, schema in settings_schema().items() if schema["type"] == "array"}
    found: dict[str, Any] = {}
    for variable, value in environment.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name == variable or name in SECRET_VARIABLES:
            continue
        name = name.lower()
        found[name] = tuple(one.strip() for one in value.split(",") if one.strip()) if name in several else value
    return found
