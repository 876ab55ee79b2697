"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) as specified, with aiortc peers."""

import asyncio
import re
import time
from typing import Any

import numpy as np
import pytest
from aiortc import RTCSessionDescription

from avatar_stream.server.rtc.signalling import agreed_codec, direction, ice_ufrag, media_sections
from tests.waiting import TEST_TIMEOUT, http, until
from tests.webrtc.peers import BOTH_HOSTS, SDP_HEADERS, Peer, no_sessions, only, running

pytestmark = pytest.mark.webrtc

FRAGMENT_HEADERS = {"Content-Type": "application/trickle-ice-sdpfrag"}


def obs_offer(sdp: str) -> str:
    """An offer like OBS 30's, made from aiortc's: sendonly, opus as 111 and H264 as 96, without candidates."""
    out = []
    for section in [sdp[: sdp.index("m=")], *media_sections(sdp)]:
        if section.startswith("m=video"):
            h264 = re.search(r"a=rtpmap:(\d+) H264/90000\r\na=rtcp-fb:\1 nack\r\n", section)
            assert h264
            kept = [x for x in section.splitlines() if not re.match(r"a=(rtpmap|rtcp-fb|fmtp|candidate|end)", x)]
            kept[0] = "m=video 9 UDP/TLS/RTP/SAVPF 96"
            kept += ["a=rtpmap:96 H264/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli"]
            kept += ["a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1"]
        elif section.startswith("m=audio"):
            kept = [x for x in section.splitlines() if not re.match(r"a=(rtpmap|rtcp-fb|fmtp|candidate|end)", x)]
            kept[0] = "m=audio 9 UDP/TLS/RTP/SAVPF 111"
            kept += ["a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1"]
        else:
            kept = section.splitlines()
        out += kept
    return "\r\n".join(out) + "\r\n"


@BOTH_HOSTS
async def test_publish_and_watch_with_sound(host_settings: dict[str, Any]) -> None:
    async with running(**host_settings) as (url, server):
        publisher, viewer = Peer(url, "publish"), Peer(url, "view")
        response = await publisher.connect("noor", audio=True, session="studio")
        assert response.status_code == 201
        assert response.headers["content-type"] == "application/sdp"
        assert response.headers["location"].startswith("/whip/")
        assert response.headers["etag"]
        assert response.headers["accept-patch"] == "application/trickle-ice-sdpfrag"
        for section in media_sections(response.text):
            assert direction(section, response.text) == "recvonly"
        assert "s=AI-generated" in response.text
        watched = await viewer.connect(path="/whep/studio", audio=True)
        assert watched.status_code == 201
        assert watched.headers["location"].startswith("/whep/studio/")
        for section in media_sections(watched.text):
            assert direction(section, watched.text) == "sendonly"
        # One MediaStream, or a browser does not synchronise sound and picture.
        streams = set(re.findall(r"^a=msid:(\S+)", watched.text, re.MULTILINE))
        assert len(streams) == 1
        _, numbers = await viewer.avatars(30)
        assert numbers == sorted(numbers)
        async with http(url) as client:
            # A viewer can end its own resource, but not the session.
            assert (await client.delete(f"/whip/{viewer.key}")).status_code == 404
            assert (await client.delete(viewer.location)).status_code == 200
            assert (await client.delete(viewer.location)).status_code == 404
            assert only(server).live
            assert (await client.delete(publisher.location, headers={"If-Match": '"any"'})).status_code == 200
        await no_sessions(server)
        assert (await Peer(url, "view").connect(path="/whep/studio")).status_code == 404
        for peer in (publisher, viewer):
            await peer.close()


async def test_sound_is_delayed_with_its_picture() -> None:
    """Drawing takes half a second longer here, so a click must be heard at least that much later."""
    slower = 0.5
    async with running() as (url, server):
        publisher, viewer = Peer(url, "publish"), Peer(url, "view")
        await publisher.connect(audio=True, session="studio")
        await viewer.connect(path="/whep/studio", audio=True)
        await viewer.avatars(1)
        session = only(server)
        assert publisher.microphone
        microphone, loop = publisher.microphone, asyncio.get_running_loop()

        async def heard_after() -> float:
            """Seconds from the next click to its sound."""
            microphone.click()
            loudest = 0
            async with asyncio.timeout(TEST_TIMEOUT):
                while loudest < 4000:
                    frame = await viewer.sound.recv()
                    loudest = np.abs(frame.to_ndarray().astype(int)).max()
            return loop.time() - microphone.clicked_at

        watching = asyncio.create_task(viewer.pictures(100_000))
        await heard_after()
        await until(lambda: session.broadcast.delay > 0.02, "the delay of the picture was measured")
        paint = session.live_loop.avatar.paint

        def slowly(warped: Any) -> Any:
            time.sleep(slower)
            return paint(warped)

        session.live_loop.avatar.paint = slowly
        await until(lambda: session.broadcast.delay > slower, "the delay of the picture was measured")
        assert await heard_after() > slower
        watching.cancel()
        await server.sessions.close()
        for peer in (publisher, viewer):
            await peer.close()


async def test_obs_publishes_h264_and_never_trickles() -> None:
    async with running() as (url, server):
        obs, viewer = Peer(url, "publish"), Peer(url, "view")
        offer = obs_offer(await obs.offer(audio=True))
        assert "a=candidate" not in offer
        async with http(url) as client:
            response = await client.post("/whip?session=obs", content=offer, headers=SDP_HEADERS)
            assert response.status_code == 201
            assert agreed_codec(response.text, "video") == "H264"
            assert agreed_codec(response.text, "audio") == "opus"
            # It is peer-reflexive: OBS gets the server's candidates, the server learns its address from its checks.
            await obs.pc.setLocalDescription(RTCSessionDescription(offer, "offer"))
            await obs.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
            await viewer.connect(path="/whep/obs")
            await viewer.avatars(10)
            assert (await client.delete(response.headers["location"])).status_code == 200
        await no_sessions(server)
        for peer in (obs, viewer):
            await peer.close()


async def test_many_viewers_share_one_encode() -> None:
    async with running() as (url, server):
        publisher = Peer(url)
        await publisher.connect(session="crowd")
        await publisher.pictures(5)
        session = only(server)
        viewers = [Peer(url, "view") for _ in range(5)]
        for viewer in viewers:
            assert (await viewer.connect(path="/whep/crowd")).status_code == 201
        await asyncio.gather(*(viewer.pictures(10) for viewer in viewers))
        sent, encoded = session.broadcast.sent, session.broadcast.encoded
        await asyncio.gather(*(peer.pictures(40) for peer in (publisher, *viewers)))
        # One picture may have been encoded but not yet counted as sent.
        assert session.broadcast.encoded - encoded - (session.broadcast.sent - sent) in (-1, 0, 1)
        assert all(feed.sent > 40 for viewer in session.viewers.values() for feed in viewer.feeds)
        assert session.status()["viewers"] == 5
        # A late viewer starts with a key frame and gets the same pictures.
        late = Peer(url, "view")
        await late.connect(path="/whep/crowd")
        await late.avatars(1)
        await server.sessions.close()
        for peer in (publisher, late, *viewers):
            await peer.close()


async def test_a_viewer_that_offers_only_h264_gets_h264() -> None:
    async with running() as (url, server):
        publisher, plain, other = Peer(url, "publish"), Peer(url, "view"), Peer(url, "view")
        await publisher.connect(session="two-codecs")
        await plain.connect(path="/whep/two-codecs")
        offer = await other.offer()
        numbers = re.findall(r"^a=rtpmap:(\d+) VP8/90000", offer, re.MULTILINE)
        only_h264 = re.sub(
            rf"^a=(rtpmap|rtcp-fb|fmtp):({'|'.join(numbers)}) [^\r\n]*\r\n", "", offer, flags=re.MULTILINE
        )
        async with http(url) as client:
            response = await client.post("/whep/two-codecs", content=only_h264, headers=SDP_HEADERS)
        assert response.status_code == 201
        assert agreed_codec(response.text, "video") == "H264"
        await other.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
        for viewer in (plain, other):
            await viewer.avatars(1)
        assert set(only(server).broadcast._encoders) == {"VP8", "H264"}
        await server.sessions.close()
        for peer in (publisher, plain, other):
            await peer.close()


@BOTH_HOSTS
async def test_trickled_candidates_connect_a_session(host_settings: dict[str, Any]) -> None:
    async with running(**host_settings) as (url, server), http(url) as client:
        peer = Peer(url)
        whole = await peer.offer()
        candidates = re.findall(r"^a=(candidate:[^\r\n]+)", whole, re.MULTILINE)
        assert candidates
        bare = re.sub(r"^a=(candidate|end-of-candidates)[^\r\n]*\r\n", "", whole, flags=re.MULTILINE)
        answer = await client.post("/session", content=bare, headers=SDP_HEADERS)
        etag, location, user = answer.headers["etag"], answer.headers["location"], ice_ufrag(whole)
        # Without the server's candidates in the answer, only the trickled ones can connect.
        deaf = re.sub(r"^a=(candidate|end-of-candidates)[^\r\n]*\r\n", "", answer.text, flags=re.MULTILINE)

        async def patch(text: str, **headers: str) -> int:
            sent = FRAGMENT_HEADERS | {"If-Match": etag} | {k.replace("_", "-"): v for k, v in headers.items()}
            sent = {k: v for k, v in sent.items() if v}
            return (await client.patch(location, content=text, headers=sent)).status_code

        head = f"a=ice-ufrag:{user}\r\na=ice-pwd:whatever0123456789012345\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\n"
        assert await patch(head, If_Match="") == 428
        assert await patch(head, If_Match='"other"') == 412
        assert await patch(head, Content_Type="application/json") == 415
        assert await patch(head.replace(user, "restart"), If_Match="*") == 422
        assert await patch("hello") == 400
        assert await patch(head + f"a={candidates[0]}\r\n" * 40) == 400
        assert await patch(head + "a=candidate:1 1 udp 1 no.such.host 5 typ host\r\n") == 204
        assert await patch(head + "".join(f"a={c}\r\n" for c in candidates[:5])) == 204
        await peer.pc.setRemoteDescription(RTCSessionDescription(deaf, "answer"))
        pictures = await peer.pictures(5)
        assert len(pictures) == 5
        assert await patch(head + "a=end-of-candidates\r\n", If_Match="*") == 204
        assert only(server).live
        await server.sessions.close()
        assert await patch(head) == 404
        await peer.close()


@pytest.mark.parametrize(
    ("path", "role", "change", "status"),
    [
        ("/whip", "view", lambda s: s, 406),
        ("/whep/there", "publish", lambda s: s, 406),
        ("/whip", "publish", lambda s: s.replace("VP8", "AV1").replace("H264", "VP9"), 406),
        ("/whip", "publish", lambda s: s + s[s.index("m=") :], 406),
        ("/whip", "publish", lambda s: s.replace("a=ice-ufrag", "a=x"), 400),
        ("/whip", "publish", lambda s: s.replace("v=0", "v=1"), 400),
        ("/whip?session=No%20Such", "publish", lambda s: s, 400),
        ("/whip?portrait=nobody", "publish", lambda s: s, 404),
        ("/whep/nobody", "view", lambda s: s, 404),
    ],
)
async def test_offers_that_are_refused(path: str, role: str, change: Any, status: int) -> None:
    async with running() as (url, server), http(url) as client:
        peer, host = Peer(url, role), Peer(url, "publish")
        await host.connect(session="there")
        offer = change(await peer.offer())
        response = await client.post(path, content=offer, headers=SDP_HEADERS)
        assert response.status_code == status, response.text
        assert "\n" not in response.json()["error"]
        assert list(server.sessions.by_id) == ["there"]
        await server.sessions.close()
        for one in (peer, host):
            await one.close()


async def test_get_and_options_describe_the_endpoints() -> None:
    async with running(turn=("turn:turn.example:3478?transport=udp", "stun:turn.example"), turn_secret="s3cret") as (
        url,
        server,
    ):
        async with http(url) as client:
            for path in ("/whip", "/whep/some", "/session"):
                assert (await client.get(path)).status_code == 204
                options = await client.options(path)
                assert options.status_code == 204
                assert options.headers["accept-post"] == "application/sdp"
                links = options.headers.get_list("link")
                assert len(links) == 2
                assert re.fullmatch(
                    r'<turn:turn.example:3478\?transport=udp>; rel="ice-server"; username="\d+:anybody"; '
                    r'credential="[A-Za-z0-9+/=]+"; credential-type="password"',
                    links[0],
                )
                assert links[1] == '<stun:turn.example>; rel="ice-server"'
                assert (await client.put(path)).status_code == 405
                wrong = await client.post(path, content="{}", headers={"Content-Type": "application/json"})
                assert wrong.status_code == 415
                assert wrong.headers["accept-post"] == "application/sdp"
            peer = Peer(url, "publish")
            opened = await peer.connect()
            assert len(opened.headers.get_list("link")) == 2
            seen = await client.get(peer.location)
            assert (seen.status_code, seen.content) == (204, b"")
        await server.sessions.close()
        await peer.close()


@BOTH_HOSTS
async def test_a_name_is_taken_over_by_its_owner(host_settings: dict[str, Any]) -> None:
    async with running(**host_settings) as (url, server):
        first, second, viewer = Peer(url, "publish"), Peer(url, "publish"), Peer(url, "view")
        await first.connect(session="studio")
        await viewer.connect(path="/whep/studio")
        await viewer.pictures(3)
        assert (await second.connect(session="studio")).status_code == 201
        assert only(server).publisher.key == second.key
        again = Peer(url, "view")
        await again.connect(path="/whep/studio")
        assert len(await again.pictures(3)) == 3
        await server.sessions.close()
        for peer in (first, second, viewer, again):
            await peer.close()
