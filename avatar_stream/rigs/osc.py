"""Reads OSC datagrams (opensoundcontrol.org, specification 1.0) from untrusted senders."""

import logging
from typing import Any, Final

from pythonosc import osc_bundle, osc_message
from pythonosc.osc_packet import OscPacket

# python-osc logs a line for every unknown type in a datagram: a sender must not be able to fill the log.
_SILENT_LOGGER = logging.Logger("pythonosc", logging.CRITICAL)
for _module in (osc_bundle, osc_message):
    vars(_module)["logging"] = _SILENT_LOGGER

BUNDLE_NAME: Final = b"#bundle\x00"
BUNDLE_HEADER_BYTES: Final = 16  # its name and its time
MAX_DEPTH: Final = 8  # bundles within bundles


def messages(packet: bytes) -> list[tuple[str, list[Any]]]:
    """The (address, arguments) of each message in a datagram.

    Raises ``ParseError`` of python-osc, ``ValueError`` or ``IndexError`` if the datagram is not OSC.
    """
    _check_element(packet, 0)
    return [(timed.message.address, list(timed.message.params)) for timed in OscPacket(packet).messages]


def _check_element(element: bytes, depth: int) -> None:
    """Raise ``ValueError`` unless an element's parts are complete: python-osc reads a part of size -4 for ever."""
    if not element.startswith(BUNDLE_NAME):
        if not element.startswith(b"/"):
            raise ValueError("an OSC element must be a message or a bundle")
        return
    if depth > MAX_DEPTH or len(element) < BUNDLE_HEADER_BYTES:
        raise ValueError("an OSC bundle is cut off or nested too deeply")
    at = BUNDLE_HEADER_BYTES
    while at < len(element):
        size = int.from_bytes(element[at : at + 4], "big", signed=True)
        if size <= 0 or size % 4 or at + 4 + size > len(element):
            raise ValueError("an OSC element has an impossible size")
        _check_element(element[at + 4 : at + 4 + size], depth + 1)
        at += 4 + size
