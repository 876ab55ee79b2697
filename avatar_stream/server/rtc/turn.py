"""ICE servers for clients: TURN credentials that expire, and the Link header that carries them. Pure functions.

The credentials follow "A REST API For Access To TURN Services" (draft-uberti-behave-turn-rest-00), coturn's
``use-auth-secret``: the user name starts with an expiry time, the password is its HMAC-SHA1 with a secret shared with
the TURN server. The header follows RFC 9725 section 4.4 (WHIP); WHEP uses the same.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IceServer:
    """One URL for ``RTCConfiguration.iceServers``, with credentials if it is a TURN server."""

    url: str
    username: str = ""
    credential: str = ""


def ice_servers(urls: Sequence[str], secret: str, minutes: int, now: float, who: str = "avatar") -> list[IceServer]:
    """``urls`` with credentials that are valid for ``minutes`` from ``now`` (seconds since 1970)."""
    username = f"{int(now) + 60 * minutes}:{who}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    credential = base64.b64encode(digest).decode()
    return [IceServer(url, username, credential) if url.startswith("turn") else IceServer(url) for url in urls]


def link_header(server: IceServer) -> str:
    """The value of a Link header for ``server``."""
    link = f'<{server.url}>; rel="ice-server"'
    if server.username:
        link += f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
    return link
