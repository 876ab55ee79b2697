"""Tokens, limits, floods and slow clients: the server refuses and goes on."""

import asyncio
import contextlib
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
import websockets
from aiortc import RTCSessionDescription

from avatar_stream.server.access import Access, make_token, parse_tokens
from avatar_stream.server.session import registry as sessions
from tests.waiting import TEST_TIMEOUT, http, until, within
from tests.webrtc.peers import BOTH_HOSTS, SDP_HEADERS, Peer, channel, no_sessions, only, running, set_timer

pytestmark = pytest.mark.webrtc


def guarded(**people: str) -> tuple[Access, dict[str, str]]:
    """Access with a token for each name and its scopes; returns it and the tokens by name."""
    made = {name: make_token(name, scopes.split(",")) for name, scopes in people.items()}
    return Access(parse_tokens("\n".join(line for _, line in made.values()))), {n: t for n, (t, _) in made.items()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_what_each_scope_allows() -> None:
    access, tokens = guarded(studio="publish,view", other="publish,view", watcher="view", boss="admin")
    async with running(access=access) as (url, server), http(url) as client:
        for path in ("/whip", "/session", "/whep/x", "/identities"):
            refused = await client.post(path, content="v=0", headers=SDP_HEADERS)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
        for path in ("/metrics", "/status"):
            assert (await client.get(path, headers={"Accept": "application/json"})).status_code == 401
        assert (
            await client.post("/whip", content="v=0", headers=SDP_HEADERS | bearer(tokens["watcher"]))
        ).status_code == 403
        assert (await client.get("/metrics", headers=bearer(tokens["studio"]))).status_code == 403
        assert "avatar_sessions" in (await client.get("/metrics", headers=bearer(tokens["boss"]))).text
        # Open to everyone: the page, the samples, the probes.
        for path in ("/", "/identities", "/identities/noor", "/healthz", "/view/x", "/status"):
            assert (await client.get(path)).status_code == 200, path

        studio = Peer(url, "publish", token=tokens["studio"])
        assert (await studio.connect(session="studio")).status_code == 201
        # Without a token, or with another owner's token, nobody can change a session.
        for headers, status in (({}, 401), (bearer(tokens["other"]), 403), (bearer(tokens["watcher"]), 403)):
            assert (await client.delete(studio.location, headers=headers)).status_code == status
            for method in ("POST", "DELETE"):
                answer = await client.request(method, f"/links/{studio.key}", headers=headers)
                assert answer.status_code == status
        stolen = Peer(url, "publish", token=tokens["other"])
        assert (await stolen.connect(session="studio")).status_code == 409

        link = (await client.post(f"/links/{studio.key}", headers=bearer(tokens["studio"]))).json()
        path, token = link["path"].split("#")
        assert path == "/view/studio"
        viewer, wrong = Peer(url, "view", token=token), Peer(url, "view", token=token)
        assert (await viewer.connect(path="/whep/studio")).status_code == 201
        assert len(await viewer.pictures(2)) == 2
        assert (await wrong.connect(path="/whep/other")).status_code == 403
        assert (await client.post("/whip", content="v=0", headers=SDP_HEADERS | bearer(token))).status_code == 403
        # A revoked link admits nobody, and its viewers are disconnected; viewers with a token stay.
        watcher = Peer(url, "view", token=tokens["watcher"])
        assert (await watcher.connect(path="/whep/studio")).status_code == 201
        await watcher.pictures(2)
        revoked = await client.delete(f"/links/{studio.key}", headers=bearer(tokens["studio"]))
        assert revoked.json() == {"ended": 1}
        await until(lambda: len(only(server).viewers) == 1, "the link's viewer was disconnected")
        late = Peer(url, "view", token=token)
        assert (await late.connect(path="/whep/studio")).status_code == 401
        assert len(await watcher.pictures(2)) == 2
        for peer in (watcher, late):
            await peer.close()
        assert only(server).live
        assert (await client.delete(studio.location, headers=bearer(tokens["boss"]))).status_code == 200
        for peer in (studio, stolen, viewer, wrong):
            await peer.close()


@BOTH_HOSTS
async def test_a_link_ends_with_its_session(host_settings: dict[str, Any]) -> None:
    """An old link does not show the next session of the same name, whoever owns it."""
    access, tokens = guarded(mole="publish", studio="publish,view")
    async with running(access=access, **host_settings) as (url, server), http(url) as client:
        mole = Peer(url, "publish", token=tokens["mole"])
        assert (await mole.connect(session="stage")).status_code == 201
        refused = await client.post(f"/links/{mole.key}", headers=bearer(tokens["mole"]))
        assert refused.status_code == 403, "a link needs the scope view"
        assert "view" in refused.json()["error"]
        await mole.close()
        await client.delete(mole.location, headers=bearer(tokens["mole"]))

        first = Peer(url, "publish", token=tokens["studio"])
        assert (await first.connect(session="stage")).status_code == 201
        link = (await client.post(f"/links/{first.key}", headers=bearer(tokens["studio"]))).json()["path"]
        token = link.split("#")[1]
        viewer = Peer(url, "view", token=token)
        assert (await viewer.connect(path="/whep/stage")).status_code == 201
        await viewer.pictures(1)
        motion = await channel(url, "/motion/stage")
        await motion.send(json.dumps({"type": "token", "value": token}))
        assert "blendShapes" in json.loads(await within(motion.recv()))
        before = only(server)
        again = Peer(url, "publish", token=tokens["studio"])  # the owner takes the name over, like a restarted OBS
        assert (await again.connect(session="stage")).status_code == 201
        assert only(server) is not before
        assert all(peer.ended.is_set() for peer in before.viewers.values())
        async with asyncio.timeout(20):
            await motion.wait_closed()
        late = Peer(url, "view", token=token)
        answer = await late.connect(path="/whep/stage")
        assert answer.status_code == 401
        assert "has ended" in answer.json()["error"]
        async with channel(url, "/motion/stage") as socket:
            await socket.send(json.dumps({"type": "token", "value": token}))
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await within(socket.recv())
            assert closed.value.rcvd
            assert closed.value.rcvd.code == 4401
        new = (await client.post(f"/links/{again.key}", headers=bearer(tokens["studio"]))).json()["path"]
        fresh = Peer(url, "view", token=new.split("#")[1])
        assert (await fresh.connect(path="/whep/stage")).status_code == 201
        for peer in (first, again, viewer, late, fresh):
            await peer.close()


async def test_viewers_with_a_link_are_disconnected_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    access, tokens = guarded(studio="publish,view")
    async with running(access=access) as (url, server), http(url) as client:
        studio = Peer(url, "publish", token=tokens["studio"])
        assert (await studio.connect(session="studio")).status_code == 201
        session = only(server)
        expires = int(time.time()) + 3600
        soon, revoked = (access.link("studio", session.instance_id, expires) for _ in range(2))
        viewer = Peer(url, "view", token=soon)
        an_hour_later = SimpleNamespace(time=lambda: expires - 0.1, monotonic=time.monotonic)
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "time", an_hour_later)
            assert (await viewer.connect(path="/whep/studio")).status_code == 201
        (watching,) = session.viewers.values()
        await within(watching.ended.wait())
        assert watching.reason == "its link is over"
        assert not session.publisher.ended.is_set(), "the session goes on"
        # Revoke a link while the server is answering its bearer.
        real = session.view

        async def slow(peer: Any, offer: str) -> str:
            answer = await real(peer, offer)
            assert (await client.delete(f"/links/{studio.key}", headers=bearer(tokens["studio"]))).status_code == 200
            return answer

        session.view = slow
        late = Peer(url, "view", token=revoked)
        assert (await late.connect(path="/whep/studio")).status_code == 401
        assert all(peer.ended.is_set() for peer in session.viewers.values())
        for peer in (studio, viewer, late):
            await peer.close()


async def test_the_control_channel_requires_the_token_first() -> None:
    access, tokens = guarded(studio="publish", other="publish")
    async with running(access=access) as (url, server):
        peer = Peer(url, token=tokens["studio"])
        await peer.connect()
        for first in ("{}", "nonsense", json.dumps({"type": "token", "value": tokens["other"]})):
            async with channel(url, f"/control/{peer.key}") as socket:
                await socket.send(first)
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await within(socket.recv())
                assert closed.value.rcvd
                assert closed.value.rcvd.code == 4401
        async with channel(url, f"/control/{peer.key}") as socket:
            await socket.send(json.dumps({"type": "token", "value": tokens["studio"]}))
            assert json.loads(await socket.recv())["type"] == "status"
        await server.sessions.close()
        await peer.close()


async def test_each_invalid_number_gets_one_error_and_the_session_goes_on() -> None:
    async with running(message_rate=1000) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(1)
        async with channel(url, f"/control/{peer.key}") as socket:

            async def answer() -> dict[str, Any]:
                while (received := json.loads(await within(socket.recv())))["type"] == "status":
                    pass
                return dict(received)

            for number in ("9" * 3000, "1e308", "NaN", "Infinity", '"\\ud800"', "[" * 500 + "]" * 500):
                for message in (
                    '{"type": "gain", "value": %s}',
                    '{"type": "portrait", "id": %s}',
                    '{"type": "expression", "value": {"gains": {"head": %s}}}',
                    '{"type": "motion", "blendShapes": {"jawOpen": %s}}',
                    '{"type": "motion", "blendShapes": {}, "head": {"position": [%s, 0, 0]}}',
                ):
                    await socket.send(message % number)
                    assert (await answer())["type"] == "error"
            await socket.send(b"\x01\x00" + b"\xff" * 9)
            assert (await answer())["type"] == "error"
            await socket.send('{"type": "gain", "value": 1}')
            assert (await answer())["type"] == "done", "one answer each"
        assert len(await peer.pictures(3)) == 3
        assert not only(server).publisher.ended.is_set()
        await peer.close()


async def test_too_many_messages_close_the_channel_not_the_session() -> None:
    async with running(message_rate=1) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(1)
        async with channel(url, f"/control/{peer.key}") as socket:
            sent = 0
            with contextlib.suppress(websockets.ConnectionClosed):
                while sent < 10_000:
                    await socket.send('{"type": "neutral"}')
                    await asyncio.sleep(0)
                    sent += 1
                await within(socket.wait_closed())
            assert sent > 1
            assert socket.close_code == 1008
        assert only(server).live
        await server.sessions.close()
        await peer.close()


async def test_other_origins_and_hosts_are_refused() -> None:
    async with running() as (url, server), http(url) as client:
        port = url.rsplit(":", 1)[1]
        assert (await client.get("/healthz", headers={"Host": "evil.example"})).status_code == 403
        foreign = {"Origin": "https://evil.example"}
        assert (await client.post("/session", content="v=0", headers=SDP_HEADERS | foreign)).status_code == 403
        preflight = foreign | {"Access-Control-Request-Method": "POST"}
        refused = await client.options("/whip", headers=preflight)
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
        own = {"Origin": f"http://127.0.0.1:{port}"}
        assert (await client.post("/session", content="v=0", headers=SDP_HEADERS | own)).status_code == 400
        peer = Peer(url)
        await peer.connect()
        with pytest.raises(websockets.InvalidStatus):
            await channel(url, f"/control/{peer.key}", origin=websockets.Origin("https://evil.example"))
        await server.sessions.close()
        await peer.close()
    async with (
        running(allow_origin=("https://studio.example",)) as (url, _),
        http(url) as client,
    ):
        friend = {"Origin": "https://studio.example"}
        answer = await client.options("/whip", headers=friend | {"Access-Control-Request-Method": "POST"})
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://studio.example"
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        for name in ("Authorization", "Content-Type", "If-Match"):
            assert name in answer.headers["access-control-allow-headers"]
        exposed = (await client.options("/whip", headers=friend)).headers["access-control-expose-headers"]
        for name in ("Location", "ETag", "Link", "Accept-Patch"):
            assert name in exposed


async def test_pages_cannot_be_framed_or_sniffed() -> None:
    async with running() as (url, _), http(url) as client:
        headers = (await client.get("/")).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
        # Only the face finder's frame may evaluate strings, and it may connect to this server only.
        assert "unsafe-eval" not in headers["content-security-policy"]
        finder = (await client.get("/face/mesh.html")).headers["content-security-policy"]
        assert "'unsafe-eval'" in finder
        assert "default-src 'none'" in finder
        assert "connect-src 'self';" in finder
        assert "unsafe-eval" not in (await client.get("/face/mesh.js")).headers["content-security-policy"]
        # /status answers with HTML or JSON: a cache must not confuse them.
        for accept in ("text/html", "application/json"):
            answer = await client.get("/status", headers={"Accept": accept})
            assert answer.headers["content-type"].startswith(accept)
            assert answer.headers["vary"] == "Accept"
            assert answer.headers["cache-control"].startswith("no-")


async def test_half_open_sessions_are_limited_and_end() -> None:
    settings: dict[str, Any] = {
        "sessions": 50,
        "sessions_per_address": 50,
        "half_open_per_address": 3,
    }
    async with running(**settings) as (url, server), http(url) as client:
        offer = await Peer(url).offer()
        answers = [await client.post("/session", content=offer, headers=SDP_HEADERS) for _ in range(20)]
        assert [a.status_code for a in answers] == [201] * 3 + [429] * 17
        assert answers[-1].headers["retry-after"]
        # They start no threads, and end after the connect timeout.
        sessions: list[Any] = list(server.sessions.by_id.values())
        assert all(not session.live_loop.threads for session in sessions)
        set_timer(server, connect_timeout=0.5)
        await no_sessions(server)
        assert (await client.post("/session", content=offer, headers=SDP_HEADERS)).status_code == 201


async def test_sessions_and_viewers_of_one_address_are_limited() -> None:
    async with running(sessions_per_address=1, viewers_per_address=2, viewers=10) as (url, server):
        peers = [Peer(url, "publish"), Peer(url, "publish")]
        assert (await peers[0].connect(session="one")).status_code == 201
        assert (await peers[1].connect(session="two")).status_code == 429
        viewers = [Peer(url, "view") for _ in range(3)]
        assert [(await viewer.connect(path="/whep/one")).status_code for viewer in viewers] == [201, 201, 429]
        await server.sessions.close()
        for peer in (*peers, *viewers):
            await peer.close()
    async with running(viewers=1) as (url, server):
        host, first, second = Peer(url, "publish"), Peer(url, "view"), Peer(url, "view")
        await host.connect(session="one")
        assert (await first.connect(path="/whep/one")).status_code == 201
        assert (await second.connect(path="/whep/one")).status_code == 503
        await server.sessions.close()
        for peer in (host, first, second):
            await peer.close()


async def test_a_trusted_proxy_sets_the_clients_address() -> None:
    async def statuses(**settings: Any) -> list[int]:
        async with (
            running(half_open_per_address=1, **settings) as (url, _),
            http(url) as client,
        ):
            offer = await Peer(url).offer()
            asked = ["203.0.113.1", "203.0.113.2", "203.0.113.1"]
            return [
                (
                    await client.post("/session", content=offer, headers=SDP_HEADERS | {"X-Forwarded-For": a})
                ).status_code
                for a in asked
            ]

    assert await statuses(trust_proxy=("127.0.0.1",)) == [201, 201, 429]
    assert await statuses() == [201, 429, 429]


async def post_slowly(url: str, start: bytes, each: bytes) -> bytes:
    """Send ``start`` and then ``each`` repeatedly; returns the first line of the answer."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(start)

    async def feed() -> None:
        while True:
            writer.write(each)
            await writer.drain()
            await asyncio.sleep(0.1)

    feeding = asyncio.create_task(feed())
    line = await within(reader.readline())
    feeding.cancel()
    writer.close()
    return line


async def test_slow_requests_time_out() -> None:
    post = (
        b"POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\nContent-Length: 900\r\n\r\n"
    )
    async with running(header_timeout=1.5, body_timeout=1.5) as (url, _):
        for start, each in ((b"GET / HTTP/1.1\r\nX-A: ", b"a"), (b"", b""), (post, b"v")):
            line = await post_slowly(url, start, each)
            assert line.startswith(b"HTTP/1.1 408"), (start, line)
        # The timeout also applies to the second request of a kept connection.
        line = await post_slowly(url, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nX: ", b"a")
        assert line.startswith(b"HTTP/1.1 200")
        async with http(url) as client:
            assert (await client.get("/healthz")).status_code == 200


async def test_uploads_of_one_address_are_limited() -> None:
    async with running(uploads_per_minute=2) as (url, _), http(url) as client:
        statuses = [(await client.post("/identities", content=b"no picture")).status_code for _ in range(3)]
        assert statuses == [422, 429, 429]
        refused = await client.post("/backgrounds", content=b"no picture")
        assert refused.status_code == 429
        assert "2 pictures a minute" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) > 0


async def test_offers_of_one_address_are_limited() -> None:
    async with running(offers_per_minute=24) as (url, _):
        peers = [Peer(url) for _ in range(3)]
        answers = [await peer.connect() for peer in peers]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert "24 connections of one address in a minute" in answers[-1].json()["error"]
        assert int(answers[-1].headers["retry-after"]) > 0
        for peer in peers:
            await peer.close()


async def test_a_link_of_a_server_without_tokens_cannot_be_revoked() -> None:
    async with running() as (url, _), http(url) as client:
        peer = Peer(url)
        await peer.connect()
        assert (await client.post(f"/links/{peer.key}")).json()["revocable"] is False
        answer = await client.delete(f"/links/{peer.key}")
        assert answer.status_code == 422
        assert "end the session instead" in answer.json()["error"]
        await peer.close()


async def test_connections_of_one_address_are_limited() -> None:
    async with running(connections_per_address=5) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(5)]
        reader, writer = await asyncio.open_connection(host, int(port))
        assert (await within(reader.readline())).startswith(b"HTTP/1.1 429")
        for _, one in [*opened, (reader, writer)]:
            one.close()
        async with asyncio.timeout(TEST_TIMEOUT), http(url) as client:
            # The server notices closed connections a moment later.
            while (await client.get("/healthz", headers={"Connection": "close"})).status_code == 429:
                pass


async def test_too_large_requests_are_refused_before_they_are_parsed() -> None:
    async with running(max_upload=100_000) as (url, server), http(url) as client:
        offer = await Peer(url).offer()
        section = offer[offer.index("m=") :]
        bombs: list[tuple[str, bytes, int]] = [
            ("/session", (offer + section * 5000).encode()[:1_500_000], 413),
            ("/session", (offer[: offer.index("m=")] + "m=video 9 X 96\r\n" * 1400).encode(), 400),
            ("/session", (offer + "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n" * 1000).encode(), 400),
            ("/identities", b"x" * 200_000, 413),
        ]
        for path, content, status in bombs:
            assert (await client.post(path, content=content, headers=SDP_HEADERS)).status_code == status
        assert not server.sessions.by_id


async def test_no_datagram_goes_to_a_forbidden_address() -> None:
    async def datagrams_received(**settings: Any) -> int:
        """Count the datagrams that come to an address named in an offer."""
        loop, count = asyncio.get_running_loop(), 0

        class Counter(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                nonlocal count
                count += 1

        transport, _ = await loop.create_datagram_endpoint(Counter, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        async with running(**settings) as (url, server), http(url) as client:
            lines = [x for x in (await Peer(url).offer()).splitlines() if not x.startswith("a=candidate")]
            lines.append(f"a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host")
            answer = await client.post("/session", content="\r\n".join(lines) + "\r\n", headers=SDP_HEADERS)
            assert answer.status_code == 201
            await until(lambda: count or not server.sessions.by_id, "a datagram came or the session ended")
        transport.close()
        return count

    assert await datagrams_received() > 0
    # A server that others can reach sends nothing to a loopback address, and the session times out.
    assert await datagrams_received(host="0.0.0.0", connect_timeout=1.0) == 0


async def test_a_peer_whose_addresses_are_all_refused_still_connects() -> None:
    async with running(host="0.0.0.0") as (url, server):
        peer = Peer(url)
        assert (await peer.connect()).status_code == 201
        assert len(await peer.pictures(3)) == 3
        await server.sessions.close()
        await peer.close()


async def test_an_answer_with_a_wrong_fingerprint_does_not_connect() -> None:
    async with running() as (url, server), http(url) as client:
        peer = Peer(url)
        offer = await peer.offer()
        at = offer.index("a=fingerprint:sha-256 ") + 22
        forged = offer[:at] + ("00" if offer[at : at + 2] != "00" else "11") + offer[at + 2 :]
        response = await client.post("/session", content=forged, headers=SDP_HEADERS)
        assert response.status_code == 201
        session = only(server)
        await peer.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
        await no_sessions(server)
        assert session.publisher.reason == "never connected"
        assert not session.publisher.connected.is_set()
        await peer.close()
