"""OSC datagrams (opensoundcontrol.org, specification 1.0) from whoever sends them."""

import logging
from typing import Any, Final

from pythonosc import osc_bundle, osc_message
from pythonosc.osc_packet import OscPacket

# It writes a line of log for every datagram with a type that it does not know: whoever sends must not fill a log.
_SILENT_LOGGER = logging.Logger("pythonosc", logging.CRITICAL)
for _module in (osc_bundle, osc_message):
    vars(_module)["logging"] = _SILENT_LOGGER

BUNDLE_NAME: Final = b"#bundle\x00"
BUNDLE_HEADER_BYTES: Final = 16  # bytes: its name and its time
MAX_DEPTH: Final = 8  # bundles within bundles


def messages(packet: bytes) -> list[tuple[str, list[Any]]]:
    """(address, arguments) of every message of a datagram.

    Raises ``ParseError`` of python-osc, ``ValueError`` or ``IndexError`` for what is no OSC.
    """
    _check_element(packet, 0)
    return [(timed.message.address, list(timed.message.params)) for timed in OscPacket(packet).messages]


def _check_element(element: bytes, depth: int) -> None:
    """Raise ``ValueError`` unless an element's parts are whole: python-osc reads one of size -4 for ever."""
    if not element.startswith(BUNDLE_NAME):
        if not element.startswith(b"/"):
            raise ValueError("neither a message nor a bundle")
        return
    if depth > MAX_DEPTH or len(element) < BUNDLE_HEADER_BYTES:
        raise ValueError("a bundle that is cut, or too deep")
    at = BUNDLE_HEADER_BYTES
    while at < len(element):
        size = int.from_bytes(element[at : at + 4], "big", signed=True)
        if size <= 0 or size % 4 or at + 4 + size > len(element):
            raise ValueError("an element of no such size")
        _check_element(element[at + 4 : at + 4 + size], depth + 1)
        at += 4 + size
