"""Start the server."""

import logging
import socket
import threading

import uvicorn

from avatar_stream.errors import AvatarError
from avatar_stream.portrait.window import Networks
from avatar_stream.server.app import create_app
from avatar_stream.server.control import MAX_MESSAGE
from avatar_stream.server.upgrade import upgrade
from avatar_stream.settings import Settings


def serve(settings: Settings, networks: Networks | None) -> None:
    """Serve until stopped; raises :class:`AvatarError` when the address cannot be used."""
    try:
        listening = socket.create_server((settings.host, settings.port), reuse_port=False)
    except OSError as error:
        raise AvatarError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): choose another --port"
        ) from None
    shown = "localhost" if settings.host in ("127.0.0.1", "0.0.0.0", "::") else settings.host
    port = listening.getsockname()[1]
    engine = networks.name if networks else "warp"
    # aiortc tells of every packet it cannot use; one line per session is enough.
    for name in ("aioice", "aiortc", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if networks:
        # Nobody has to wait for what only makes it better.
        automatic = {"automatic": settings.engine == "auto"}
        threading.Thread(target=upgrade, args=(networks,), kwargs=automatic, daemon=True).start()
    print(f"avatar-stream is ready on http://{shown}:{port} (engine: {engine}). Ctrl+C stops it.", flush=True)
    config = uvicorn.Config(
        create_app(settings, networks),
        log_level="warning",
        ws_max_size=4 * MAX_MESSAGE,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listening])
