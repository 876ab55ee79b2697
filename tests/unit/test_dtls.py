"""A DTLS client's handshakes with OpenSSL as server, for each kind of certificate."""

import contextlib
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from aiortc.rtcdtlstransport import SRTP_PROFILES, RTCCertificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from avatar_stream.media import dtls
from avatar_stream.media.dtls import CIPHER_LIST, AnyCurveConnection, _with_rsa
from avatar_stream.media.dtls_client import DtlsClient
from avatar_stream.media.dtls_records import Assembler, Message, encode_record, split_records

EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"


def certificate_of(key: Any) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lavf")])
    now = datetime.datetime.now(tz=datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=2))
    return made.sign(key, hashes.SHA256())


class Server:
    """OpenSSL as a DTLS server with a certificate for ``key``."""

    def __init__(self, key: Any, ciphers: bytes = CIPHER_LIST.encode(), asks: bool = True) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_verify(SSL.VERIFY_PEER if asks else SSL.VERIFY_NONE, lambda *given: True)
        context.use_certificate(certificate_of(key))
        context.use_privatekey(key)
        context.set_cipher_list(ciphers)
        context.set_tlsext_use_srtp(b"SRTP_AES128_CM_SHA1_80")
        self.connection = SSL.Connection(context)
        self.connection.set_accept_state()


def client_of(certificate: RTCCertificate) -> AnyCurveConnection:
    context = _with_rsa(certificate._create_ssl_context)(srtp_profiles=SRTP_PROFILES)
    connection = SSL.Connection(context)
    connection.set_connect_state()
    return AnyCurveConnection(connection, certificate._key, certificate._cert)


def transfer(source: Any, target: Any, change: Callable[[bytes], list[bytes]]) -> None:
    """Move ``source``'s output to ``target``, one record per datagram, changed by ``change``."""
    try:
        data = source.bio_read(4096)
    except SSL.Error:
        return
    for one in split_records(data):
        for part in change(encode_record(one.kind, one.epoch, one.number, one.content)):
            target.bio_write(part)


def handshake(client: Any, server: Any, change: Callable[[bytes], list[bytes]] = lambda data: [data]) -> bool:
    """Run a handshake; returns whether both ends completed it, and raises ``SSL.Error`` if one fails."""
    for _ in range(20):
        done = 0
        for end, other, how in ((client, server, lambda data: [data]), (server, client, change)):
            try:
                end.do_handshake()
                done += 1
            except SSL.WantReadError:
                pass
            transfer(end, other, how)
        if done == 2:
            return True
    return False


def fingerprint(certificate: Any) -> bytes:
    return bytes(certificate.fingerprint(hashes.SHA256()))


KEY_TYPES: dict[str, Callable[[], Any]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}
"""Keys of OpenSSL's server. FFmpeg's curve, which OpenSSL refuses, is covered in tests/clients."""

ELLIPTIC_KEY_TYPES = ["P-256", "P-384", "P-521"]


def assert_agreement(client: AnyCurveConnection, server: Any, own: RTCCertificate, asked: bool = True) -> None:
    """Assert that both ends have each other's certificates and the same keys."""
    assert fingerprint(client.get_peer_certificate(as_cryptography=True)) == fingerprint(
        server.get_certificate(as_cryptography=True)
    )
    seen = server.get_peer_certificate(as_cryptography=True)
    assert (fingerprint(seen) == fingerprint(own._cert)) if asked else (seen is None)
    assert client.get_selected_srtp_profile() == b"SRTP_AES128_CM_SHA1_80"
    assert client.export_keying_material(EXPORTER_LABEL, 60) == server.export_keying_material(EXPORTER_LABEL, 60)


@pytest.fixture
def openssl_refuses_all_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that OpenSSL refuses every curve."""
    monkeypatch.setattr(dtls, "OFFERED_CURVES", ())


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_handshakes_by_openssl_with_each_kind_of_key(kind: str) -> None:
    server, own = Server(KEY_TYPES[kind]()).connection, RTCCertificate.generateCertificate()
    client = client_of(own)
    assert handshake(client, server)
    assert isinstance(client._connection, SSL.Connection)
    assert_agreement(client, server, own)


@pytest.mark.usefixtures("openssl_refuses_all_curves")
@pytest.mark.parametrize("kind", ELLIPTIC_KEY_TYPES)
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("cipher", [b"ECDHE-ECDSA-AES128-GCM-SHA256", b"ECDHE-ECDSA-CHACHA20-POLY1305"])
def test_handshakes_continued_without_openssl(kind: str, asked: bool, cipher: bytes) -> None:
    server, own = Server(KEY_TYPES[kind](), cipher, asked).connection, RTCCertificate.generateCertificate()
    client = client_of(own)
    assert handshake(client, server)
    assert isinstance(client._connection, DtlsClient)
    assert_agreement(client, server, own, asked)
    assert client.DTLSv1_get_timeout() is None
    with pytest.raises(SSL.WantReadError):
        client.recv(1500)
    server.shutdown()
    transfer(server, client, lambda data: [data])
    with pytest.raises(SSL.ZeroReturnError):
        client.recv(1500)
    client.shutdown()
    transfer(client, server, lambda data: [data])
    with pytest.raises(SSL.ZeroReturnError):
        server.recv(1500)


@pytest.mark.usefixtures("openssl_refuses_all_curves")
@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384", "P-521"])
def test_key_agreement_with_each_offered_curve(group: str) -> None:
    server, own = Server(KEY_TYPES["P-256"]()).connection, RTCCertificate.generateCertificate()
    server.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    assert SSL._lib.SSL_set1_curves_list(server._ssl, ":".join(dict.fromkeys([group, "P-256"])).encode())
    client = client_of(own)
    assert handshake(client, server)
    assert isinstance(client._connection, DtlsClient)
    assert_agreement(client, server, own)


@pytest.mark.usefixtures("openssl_refuses_all_curves")
def test_fragmented_repeated_and_lost_records_do_not_break_a_handshake() -> None:
    server, own = Server(KEY_TYPES["P-256"]()).connection, RTCCertificate.generateCertificate()
    client = client_of(own)

    def in_pieces(data: bytes) -> list[bytes]:
        (one,) = split_records(data)
        if one.kind != 22 or one.epoch:
            return [data, data]
        head, start, body = one.content[:6], int.from_bytes(one.content[6:9], "big"), one.content[12:]
        size, parts = len(body) // 3 + 1, []
        for at in range(0, max(1, len(body)), size):
            part = body[at : at + size]
            parts.append(
                encode_record(22, 0, at, head + (start + at).to_bytes(3, "big") + len(part).to_bytes(3, "big") + part)
            )
        return [parts[-1], *parts, parts[0]]

    lost: list[bytes] = []

    class Lossy:
        """The server behind a network that loses the client's first flight."""

        def bio_write(self, data: bytes) -> None:
            if isinstance(client._connection, DtlsClient) and len(lost) < 5:
                lost.append(data)
            else:
                server.bio_write(data)

        def bio_read(self, size: int) -> bytes:
            return bytes(server.bio_read(size))

        def do_handshake(self) -> None:
            server.do_handshake()

    assert not handshake(client, Lossy(), in_pieces)
    assert len(lost) == 5  # Certificate, ClientKeyExchange, CertificateVerify, ChangeCipherSpec, Finished
    assert client.DTLSv1_get_timeout() is not None
    client.DTLSv1_handle_timeout()
    assert handshake(client, Lossy(), in_pieces)
    assert_agreement(client, server, own)


@pytest.mark.usefixtures("openssl_refuses_all_curves")
@pytest.mark.parametrize("kind", [2, 11, 12, 14, 20, 22])
def test_a_changed_message_fails_the_handshake(kind: int) -> None:
    """A changed ServerHello, certificate, key, signature or Finished message must fail the handshake."""
    server = Server(KEY_TYPES["P-256"]()).connection
    client = client_of(RTCCertificate.generateCertificate())

    def forged(data: bytes) -> list[bytes]:
        (one,) = split_records(data)
        found = one.content[0] if one.kind == 22 and not one.epoch else 22 if one.epoch else 0
        return [data[:-1] + bytes([data[-1] ^ 1])] if found == kind else [data]

    if kind == 20:  # unencrypted Finished, after the server's first flight
        with pytest.raises(SSL.Error, match="encrypted"):
            handshake(
                client, server, lambda data: [data, encode_record(22, 0, 99, Message(20, 5, bytes(12)).to_bytes())]
            )
        return
    with pytest.raises(SSL.Error) if kind not in (14, 22) else contextlib.nullcontext():
        assert not handshake(client, server, forged)
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()


@pytest.mark.parametrize(
    ("curve", "refused"), [(ec.SECP224R1(), True), (ec.SECP256K1(), True), (ec.SECP256R1(), False), (None, False)]
)
def test_which_curves_openssl_refuses(curve: Any, refused: bool) -> None:
    made = certificate_of(ec.generate_private_key(curve) if curve else KEY_TYPES["RSA"]())
    der = made.public_bytes(serialization.Encoding.DER)
    assert dtls._is_refused_by_openssl(bytes(3) + len(der).to_bytes(3, "big") + der) is refused
    assert not dtls._is_refused_by_openssl(bytes(3) + len(der).to_bytes(3, "big") + der[:-40])


@given(st.binary(min_size=1, max_size=200), st.integers(0, 3))
def test_arbitrary_datagrams_do_not_raise(data: bytes, kind: int) -> None:
    client = client_of(OWN_CERTIFICATE)
    head = [b"", b"\x16\xfe\xfd" + bytes(8), b"\x15\xfe\xfd" + bytes(8), b"\x16\xfe\xfd\x00\x01" + bytes(6)][kind]
    datagram = head + len(data).to_bytes(2, "big") * bool(head) + data
    client.bio_write(datagram)
    mine = DtlsClient(Message(1, 0, bytes(40)), Assembler(), OWN_CERTIFICATE._key, OWN_CERTIFICATE._cert)
    mine.bio_write(datagram)
    with pytest.raises(SSL.Error):
        mine.do_handshake()


OWN_CERTIFICATE = RTCCertificate.generateCertificate()
