"""HTTP: floods of offers, invalid offers, and frequent connecting and leaving."""

import asyncio
import random
import re
import secrets
from collections import Counter

import httpx

from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import SDP_HEADERS, Guest
from tests.soak.stranger.registry import attempt
from tests.soak.stranger.web import counted, make_offer, repeat_request


@attempt("web.offers", "300 offers at once, from 60 addresses", after=18)
async def offers(env: Environment) -> str:
    offer, statuses = await make_offer(env), Counter[str]()

    async def one(number: int) -> None:
        try:
            async with env.http("mallory", f"127.0.0.{number % 60 + 2}") as client:
                statuses[str((await client.post("/whip", content=offer, headers=SDP_HEADERS)).status_code)] += 1
        except httpx.HTTPError as error:
            statuses[type(error).__name__] += 1

    await asyncio.gather(*(one(number) for number in range(300)))
    return counted(statuses)


@attempt("web.viewers", "viewers of the bystander that never connect, from 60 addresses", after=18)
async def viewers(env: Environment) -> str:
    offer, statuses = await make_offer(env, "view"), Counter[str]()
    for number in range(120):
        async with env.http("watcher", f"127.0.0.{number % 60 + 2}") as client:
            statuses[str((await client.post("/whep/bystander", content=offer, headers=SDP_HEADERS)).status_code)] += 1
    return counted(statuses)


@attempt("web.sdp.bombs", "offers of thousands of sections, lines, candidates and names")
async def bombs(env: Environment) -> str:
    offer = await make_offer(env)
    section, head = offer[offer.index("m=") :], offer[: offer.index("m=")]
    candidate = "a=candidate:1 1 udp 2130706431 10.0.0.{} 5000 typ host\r\n"
    made = [
        (offer + section * 5000)[:1_500_000],
        head + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 1400,
        offer + "".join(candidate.format(n % 250) for n in range(2000)),
        offer + "".join(candidate.format(n % 250) for n in range(30)) * 4,
        offer + "a=x:" + "y" * 60_000 + "\r\n",
        offer.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE " + "0 " * 30_000),
        offer + "a=rtpmap:96 VP8/90000\r\n" * 1000,
        offer + "".join(f"a=fmtp:96 {k}={'z' * 40};\r\n" for k in range(1000)),
        offer + "a=ssrc:1 cname:x\r\n" * 1000,
        offer + "a=extmap:1 urn:x\r\n" * 1000,
        "v=0\r\n" * 1400,
        "v=0" + "\n" * 60_000,
        "v=0" + "\u2028" * 20_000,
    ]

    async def one(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/whip", content=secrets.choice(made).encode(), headers=SDP_HEADERS)

    return await repeat_request(env, one, at_once=4)


@attempt("web.sdp.odd", "offers with one invalid line", processes=1)
async def odd(env: Environment) -> str:
    offer = await make_offer(env, "both")
    changes: list[tuple[str, str]] = [
        (r"a=fmtp:97 apt=96\r\n", ""),
        (r"apt=96", "apt=x"),
        (r"apt=96", "apt=97"),
        (r"apt=96", "apt=" + "9" * 5000),
        (r"VP8/90000", "VP8/90000/99"),
        (r"a=ssrc:\d+", "a=ssrc:" + "9" * 30),
        (r"a=ssrc:\d+", "a=ssrc:-1"),
        (r"a=ssrc-group:FID \d+ \d+", "a=ssrc-group:FID"),
        (r"a=ssrc-group:FID \d+ \d+", "a=ssrc-group:FID x y"),
        (r"a=extmap:\d+", "a=extmap:0"),
        (r"a=extmap:\d+", "a=extmap:99999"),
        (r"a=extmap:\d+", "a=extmap:x"),
        (r"a=mid:0", "a=mid:1"),
        (r"a=mid:\d", "a=mid:" + "m" * 300),
        (r"a=mid:0", "a=mid:\x1b[31m"),
        (r"a=setup:actpass", "a=setup:holdconn"),
        (r"a=setup:actpass", "a=setup:passive"),
        (r"a=setup:actpass", ""),
        (r"a=fingerprint:sha-256 \S+", "a=fingerprint:md5 00"),
        (r"a=fingerprint:sha-256 \S+", "a=fingerprint:sha-256"),
        (r"a=ice-ufrag:\S+", "a=ice-ufrag:" + "u" * 2000),
        (r"a=ice-pwd:\S+", "a=ice-pwd:"),
        (r"a=ice-pwd:\S+", "a=ice-pwd:\u00e9"),
        (r"m=video \d+", "m=video 99999999999"),
        (r"m=video \d+", "m=video -1"),
        (r"m=video \d+", "m=video 0"),
        (r"a=rtpmap:96 ", "a=rtpmap:999 "),
        (r"a=rtcp-fb:\S+", "a=rtcp-fb:* x"),
        (r"c=IN IP4 \S+", "c=IN IP4 " + "1" * 500),
        (r"c=IN IP4 \S+", "c="),
        (r"o=\S+", "o=\ud7ff"),
        (r"t=0 0", "t=" + "9" * 3000),
        (r"s=-", "s=" + "s" * 3000),
        (r"a=candidate:\S+ 1 udp", "a=candidate:x 9 udp"),
        (r"typ host", "typ"),
        (r"(a=candidate.*) \d+ typ", r"\1 99999 typ"),
        (r"a=rtcp:\d+", "a=rtcp:x"),
        (r"a=msid:", "a=msid"),
        (r"a=sendrecv", "a=sendrecv\r\na=inactive"),
        (r"level-asymmetry-allowed=1", "level-asymmetry-allowed=" + "1" * 4000),
        (r"profile-level-id=\w+", "profile-level-id=zz"),
    ]
    statuses = Counter[str]()
    until = asyncio.get_running_loop().time() + 4 * env.seconds
    async with env.http("mallory", "127.0.0.2") as client:
        for before, after in changes:
            response = await client.post(
                "/session", content=re.sub(before, after, offer).encode(), headers=SDP_HEADERS
            )
            statuses[str(response.status_code)] += 1
            if response.status_code >= 500 and response.status_code != 503:
                env.add_failure(f"an offer with {after[:40]!r} for {before!r} got {response.status_code}")
            if response.status_code == 201:
                await client.delete(response.headers["location"])
            if asyncio.get_running_loop().time() > until:
                break
    return counted(statuses)


@attempt("web.sdp.random", "real offers with bytes changed at random", processes=1)
async def mutated(env: Environment) -> str:
    offer, chance = (await make_offer(env, "both")).encode(), random.Random(1)

    async def one(client: httpx.AsyncClient) -> httpx.Response:
        data = bytearray(offer)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 3)] = chance.choice(
                (b"", b"9", b"\xff", b"\r\n", b":", b" ", b"-", b"0")
            )
        response = await client.post("/session", content=bytes(data), headers=SDP_HEADERS)
        if response.status_code == 201:
            await client.delete(response.headers["location"])
        return response

    return await repeat_request(env, one, at_once=2)


@attempt(
    "web.trickle", "valid and invalid trickled candidates without an end, for the sender's own session", processes=1
)
async def trickle(env: Environment) -> str:
    async with Guest(env).connected() as guest:
        await env.count_beside_idle_guest()
        found = re.search(r"^a=ice-ufrag:(\S+)", guest.pc.localDescription.sdp, re.MULTILINE)
        assert found
        lines = [
            "candidate:1 1 udp 1 127.0.0.1 9 typ host",
            "candidate:1 1 udp 99999999999999999999 127.0.0.1 9 typ host",
            "candidate:x",
            "candidate:1 1 udp 1 x.local 9 typ host",
            "candidate:1 256 udp -5 ::1 65535 typ srflx raddr x rport y",
        ]
        headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}

        async def one(client: httpx.AsyncClient) -> httpx.Response:
            body = f"a=ice-ufrag:{found[1]}\r\na=mid:{secrets.choice('01x')}\r\na={secrets.choice(lines)}\r\n"
            return await client.patch(guest.location, content=body, headers=headers)

        return await repeat_request(env, one)


@attempt("web.whep", "a viewer of the bystander that connects and leaves 50 times", processes=1)
async def whep(env: Environment) -> str:
    statuses = Counter[str]()
    for number in range(50):
        guest = Guest(env, "view", name="watcher")
        statuses[str((await guest.connect(wait=number % 5 == 0)).status_code)] += 1
        await guest.leave(("delete", "dtls", "delete")[number % 3])
    return counted(statuses)


@attempt("web.sessions", "a session opened and closed 20 times", processes=1)
async def sessions(env: Environment) -> str:
    statuses = Counter[str]()
    for number in range(20):
        guest = Guest(env, "both")
        statuses[str((await guest.connect(wait=number % 4 == 0)).status_code)] += 1
        await guest.leave(("delete", "dtls")[number % 2])
    return counted(statuses)


@attempt("web.takeover", "another token publishes under the bystander's name, and guesses session keys")
async def takeover(env: Environment) -> str:
    offer, statuses = await make_offer(env), Counter[str]()
    async with env.http("mallory") as client:
        response = await client.post("/whip", params={"session": "bystander"}, content=offer, headers=SDP_HEADERS)
        if response.status_code == 201:
            env.add_failure("another token took the bystander's name")
        statuses[str(response.status_code)] += 1
        for path in ("/session", "/whip", "/whep/bystander", "/links"):
            for key in ("x", secrets.token_urlsafe(18), "..%2f..", "%00"):
                statuses[str((await client.delete(f"{path}/{key}")).status_code)] += 1
    return counted(statuses)
