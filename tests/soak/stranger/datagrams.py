"""UDP datagrams from anyone who knows the server's media port of the bystander."""

import contextlib
import random
import socket
import struct
import zlib
from collections import Counter

from aioice import stun
from OpenSSL import SSL

from tests.soak.stranger.environment import Environment
from tests.soak.stranger.registry import attempt
from tests.soak.stranger.send import StrangerSocket, noise

DEFAULT_RATE = 400.0  # datagrams a second
FLOOD_RATE = 5000.0


async def send_datagrams(
    env: Environment, packets: list[bytes], rate: float = DEFAULT_RATE, to: tuple[str, int] | None = None
) -> str:
    """Send ``packets`` in a cycle; returns how many were sent and how many answers came."""
    stranger = StrangerSocket(to or env.port)
    try:
        count = await stranger.send_all(packets, rate, env.seconds)
        return f"{count} sent, {len(stranger.received())} answers"
    finally:
        stranger.close()


def binding_request(
    env: Environment, password: str = "wrong-password-of-a-stranger", **attributes: object
) -> stun.Message:
    """A binding request like the bystander's, except for the password."""
    theirs, own = env.bystander.first_row["users"]
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{theirs}:{own}"
    message.attributes["PRIORITY"] = 1853693695
    message.attributes["ICE-CONTROLLING"] = 12345678901234567890
    message.attributes |= attributes
    message.add_message_integrity(password.encode())
    return message


def request_with_attribute(
    kind: int, value: bytes, *, length: int | None = None, count: int = 1, fingerprint: bool = False
) -> bytes:
    """A binding request with ``count`` attributes of one kind; ``length`` replaces their true length."""
    one = struct.pack("!HH", kind, len(value) if length is None else length) + value + bytes(-len(value) % 4)
    body = one * count
    head = struct.pack("!HHI12s", 1, len(body) + 8 * fingerprint, stun.COOKIE, b"strangerhere")
    data = head + body
    if fingerprint:
        data += struct.pack("!HHI", 0x8028, 4, zlib.crc32(data) ^ stun.FINGERPRINT_XOR)
    return data


def client_hello() -> bytes:
    """A valid DTLS ClientHello."""
    client = SSL.Connection(SSL.Context(SSL.DTLS_METHOD), None)
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    return bytes(client.bio_read(4096))


@attempt("udp.empty", "one empty datagram, from anywhere", processes=1, short=True)
async def empty(env: Environment) -> str:
    stranger = StrangerSocket(env.port)
    stranger.send(b"")
    stranger.close()
    return "1 sent"


@attempt("udp.short", "datagrams of one and two bytes", processes=1, short=True)
async def short(env: Environment) -> str:
    return await send_datagrams(env, [*(bytes([k]) for k in range(256)), *(bytes([k, k]) for k in range(256))], 1000)


@attempt("udp.any", "every first byte, 1 to 1,500 random bytes", processes=1)
async def anything(env: Environment) -> str:
    chance = random.Random(1)
    return await send_datagrams(env, [noise(chance, chance.randint(1, 1500), k % 256) for k in range(4096)], 1000)


@attempt("udp.large", "datagrams of 9 and 60 kB", processes=1)
async def large(env: Environment) -> str:
    chance = random.Random(2)
    return await send_datagrams(
        env, [noise(chance, size, k * 16 % 256) for k in range(16) for size in (9000, 60000)], 200
    )


@attempt("udp.flood", "5,000 random datagrams a second", processes=1)
async def flood(env: Environment) -> str:
    chance = random.Random(3)
    return await send_datagrams(env, [noise(chance, 200, 0x80) for _ in range(500)], FLOOD_RATE)


@attempt("udp.flood.dead", "the same to an unused port: the cost of sending alone", processes=1)
async def flood_dead(env: Environment) -> str:
    chance = random.Random(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 0))
        return await send_datagrams(
            env, [noise(chance, 200, 0x80) for _ in range(500)], FLOOD_RATE, dead.getsockname()
        )


@attempt("udp.stun.cut", "a binding request cut at every length", processes=1)
async def stun_cut(env: Environment) -> str:
    whole = bytes(binding_request(env))
    fitted = [stun.set_body_length(whole[:k], k - 20) for k in range(20, len(whole))]
    return await send_datagrams(env, [whole[:k] for k in range(1, len(whole))] + fitted)


@attempt("udp.stun.attributes", "each STUN attribute with 0 to 40 bytes, and wrong lengths", processes=1, short=True)
async def stun_attributes(env: Environment) -> str:
    kinds = [kind for kind, *_ in stun.ATTRIBUTES]
    sizes = [request_with_attribute(kind, bytes(size)) for kind in kinds for size in range(41)]
    lies = [request_with_attribute(kind, bytes(4), length=size) for kind in kinds for size in (1, 3, 5, 400, 65535)]
    return await send_datagrams(env, sizes + lies)


@attempt("udp.stun.priority", "2-byte PRIORITY, 500 a second", processes=1)
async def stun_priority(env: Environment) -> str:
    return await send_datagrams(env, [request_with_attribute(0x0024, b"ab")], 500)


@attempt(
    "udp.stun.fingerprint", "wrong, short and repeated FINGERPRINT; right ones on random attributes", processes=1
)
async def stun_fingerprint(env: Environment) -> str:
    whole = bytes(binding_request(env))
    wrong = [whole[:-4] + struct.pack("!I", k) for k in range(200)]
    short_ones = [request_with_attribute(0x8028, bytes(size)) for size in range(4)]
    right = [
        request_with_attribute(kind, bytes(size), fingerprint=True) for kind in (6, 8, 9, 0x24) for size in range(24)
    ]
    return await send_datagrams(env, wrong + short_ones + right)


@attempt("udp.stun.unknown", "unknown comprehension-required attributes, and 300 of one", processes=1)
async def stun_unknown(env: Environment) -> str:
    made = [request_with_attribute(kind, b"abcd", fingerprint=True) for kind in range(0x0030, 0x0130)]
    return await send_datagrams(
        env, [*made, request_with_attribute(0x7FFF, b"", count=300), request_with_attribute(0x0006, b"", count=300)]
    )


@attempt("udp.stun.text", "USERNAME and SOFTWARE that are not UTF-8 text", processes=1)
async def stun_text(env: Environment) -> str:
    values = [b"\xff\xfe\xfd\xfc", b"\xed\xa0\x80a", b"\x1b[31mx", b"\0" * 513, b":" * 600]
    return await send_datagrams(
        env, [request_with_attribute(kind, value, fingerprint=True) for kind in (6, 0x8022, 0x14) for value in values]
    )


@attempt("udp.stun.password", "2,000 binding requests a second with a wrong password", processes=1)
async def stun_password(env: Environment) -> str:
    return await send_datagrams(env, [bytes(binding_request(env)) for _ in range(200)], 2000)


@attempt("udp.stun.kinds", "unsolicited responses, errors and indications", processes=1)
async def stun_kinds(env: Environment) -> str:
    made = []
    for method in stun.Method:
        for kind in stun.Class:
            made.append(bytes(stun.Message(method, kind)))
            error = stun.Message(method, kind)
            error.attributes["ERROR-CODE"] = (487, "Role Conflict")
            made.append(bytes(error))
    return await send_datagrams(env, made)


@attempt("udp.stun.candidates", "binding requests from 300 ports", processes=1)
async def stun_candidates(env: Environment) -> str:
    strangers = [StrangerSocket(env.port) for _ in range(300)]
    for _ in range(5):
        for stranger in strangers:
            stranger.send(bytes(binding_request(env)))
    answers = sum(len(stranger.received()) for stranger in strangers)
    for stranger in strangers:
        stranger.close()
    return f"1500 sent, {answers} answers"


@attempt("udp.dtls", "a ClientHello, whole and cut at every length, and records with wrong lengths", processes=1)
async def dtls(env: Environment) -> str:
    hello = client_hello()
    cut = [hello[:k] for k in range(1, len(hello))]
    claims = [hello[:11] + struct.pack("!H", size) + hello[13:] for size in (0, 1, 255, 16384, 65535)]
    kinds = [bytes([kind]) + hello[1:] for kind in range(20, 64)]
    return await send_datagrams(env, [hello, *cut, *claims, *kinds], 1000)


@attempt("udp.rtp", "RTP and RTCP garbage, 2,000 a second", processes=1)
async def garbage(env: Environment) -> str:
    chance = random.Random(4)
    made = []
    for k in range(2000):
        head = bytes([0x80 | k % 64, 96 if k % 3 else 200]) + chance.randbytes(10)
        made.append(head[: k % 12 + 1] if k % 5 == 0 else head + chance.randbytes(k % 200))
    return await send_datagrams(env, made, 2000)


@attempt("udp.ports", "empty datagrams at every port near the bystander's", processes=1)
async def near(env: Environment) -> str:
    host, port = env.port
    heard: Counter[int] = Counter()
    for other in range(max(1024, port - 200), min(65535, port + 200)):
        stranger = StrangerSocket((host, other))
        stranger.send(b"")
        stranger.send(b"\x16")
        heard[len(stranger.received())] += 1
        stranger.close()
    return f"{sum(heard.values())} ports"


@attempt("udp.own", "empty and one-byte datagrams over a validated pair", processes=1, short=True)
async def own(env: Environment) -> str:
    from tests.soak.stranger.guest import idle_guest

    async with idle_guest(env) as guest:
        await guest.send_datagrams([b"", *(bytes([k]) for k in range(256))], 500, env.seconds)
        return f"the guest is {'connected' if guest.live else 'disconnected'}"


@attempt("udp.own.dtls", "DTLS records of every kind and length over a validated pair", processes=1)
async def own_dtls(env: Environment) -> str:
    from tests.soak.stranger.guest import idle_guest

    chance, hello = random.Random(5), client_hello()
    made = [bytes([kind]) + b"\xfe\xfd" + chance.randbytes(k) for k, kind in enumerate(range(20, 64))]
    made += [hello[:k] for k in range(1, len(hello), 3)] + [hello]
    async with idle_guest(env) as guest:
        await guest.send_datagrams(made, 1000, env.seconds)
        return f"the guest is {'connected' if guest.live else 'disconnected'}"
