"""The second half of a DTLS 1.2 client's handshake (RFC 6347, RFC 5246), for certificates that OpenSSL 4 refuses.

OpenSSL 4 no longer knows the curves that RFC 8422 deprecates, and aborts a handshake whose certificate is on one of
them: FFmpeg's certificates, made by GnuTLS, are on P-224. This module continues such a handshake from the server's
first flight. OpenSSL sends the ClientHello; the ``cryptography`` package does all cryptography.

It implements only what WebRTC needs: ECDHE with an ECDSA certificate, AES-128-GCM or ChaCha20-Poly1305, both
certificates, the SRTP profile and the exported keys (RFC 5764). No renegotiation, no resumption, no application data.
"""

import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from OpenSSL import SSL

from avatar_stream.media.dtls_records import Assembler, Message, Record, encode_record, split_records

DTLS_1_2: Final = b"\xfe\xfd"
SERVER_HELLO, CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 2, 11, 12, 13, 14
CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE, FINISHED = 15, 16, 20
ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE = 21, 20, 22  # record content types
CLOSE_NOTIFY: Final = b"\x01\x00"
AES_GCM, CHACHA = b"\xc0\x2b", b"\xcc\xa9"  # ECDHE-ECDSA suites: RFC 5289, RFC 7905
EXTENDED_MASTER_SECRET, USE_SRTP = 23, 14  # extensions: RFC 7627, RFC 5764
SRTP_PROFILES: Final = {
    1: b"SRTP_AES128_CM_SHA1_80",
    7: b"SRTP_AEAD_AES_128_GCM",
    8: b"SRTP_AEAD_AES_256_GCM",
}
# RFC 5246 section 7.4.1.4.1
SIGNATURE_HASHES: Final[dict[int, Any]] = {4: hashes.SHA256(), 5: hashes.SHA384(), 6: hashes.SHA512()}
ECDSA: Final = 3
X25519: Final = 29
NAMED_CURVES: Final[dict[int, Any]] = {23: ec.SECP256R1(), 24: ec.SECP384R1(), 25: ec.SECP521R1()}
INITIAL_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS = 1.0, 8.0  # retransmission (RFC 6347 section 4.2.4.1)


class HandshakeError(ValueError):
    """The server's handshake violates the protocol."""


class DtlsClient:
    """Replaces a pyOpenSSL ``Connection`` from the server's first flight on."""

    def __init__(self, hello: Message, messages: Assembler, key: Any, certificate: x509.Certificate) -> None:
        """``hello`` is the last ClientHello sent, ``messages`` assembles the server's messages; ``key`` and
        ``certificate`` are our own.
        """
        self._key, self._certificate = key, certificate
        self._client_random = hello.body[2:34]
        self._transcript = hello.to_bytes()
        self._sequence = hello.number + 1  # number of our next handshake message
        self._records = 1 << 16  # number of our last record in epoch 0: larger than OpenSSL's numbers
        self._messages = messages
        self._flight: list[tuple[int, int, bytes]] = []  # epoch, content type, content
        self._outgoing = b""
        self._encrypted_records = 0  # records sent in epoch 1
        self._received_records: set[int] = set()  # records of epoch 1 that were read
        self._decrypt: Callable[[Record], bytes] | None = None
        self._encrypt: Callable[[int, bytes], bytes] | None = None
        self._master = b""
        self._server_random = self._suite = b""
        self._extended = self._certificate_requested = self._done = self._closed = False
        self._failed = ""
        self._profile = 0
        self._peer: x509.Certificate | None = None
        self._server_share = b""
        self._group = 0
        self._timeout, self._due = INITIAL_TIMEOUT_SECONDS, 0.0

    # The interface that aiortc uses, with pyOpenSSL's names.

    def begin(self, earlier: list[Message]) -> None:
        """Process the server's messages that OpenSSL has already received."""
        with self._recording_failure():
            for message in earlier:
                self._handle_message(message)

    def bio_write(self, data: bytes) -> None:
        """Process a datagram. Records that fail authentication are ignored; protocol violations end the handshake."""
        for one in split_records(data):
            with self._recording_failure():
                self._handle_record(one)

    @contextlib.contextmanager
    def _recording_failure(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, IndexError, InvalidSignature) as error:
            self._failed = str(error) or type(error).__name__

    def bio_read(self, size: int) -> bytes:
        """What is to be sent, at most ``size`` bytes."""
        data, self._outgoing = self._outgoing[:size], self._outgoing[size:]
        return data

    def do_handshake(self) -> None:
        """Return if the handshake is done; raises ``SSL.WantReadError`` before, ``SSL.Error`` if it has failed."""
        if self._failed:
            raise SSL.Error(self._failed)
        if not self._done:
            raise SSL.WantReadError

    def recv(self, size: int) -> bytes:
        """Raises ``SSL.ZeroReturnError`` if the peer has closed, else ``SSL.WantReadError``."""
        raise SSL.ZeroReturnError if self._closed else SSL.WantReadError

    def DTLSv1_get_timeout(self) -> float | None:  # noqa: N802
        """Seconds until :meth:`DTLSv1_handle_timeout` is due."""
        return max(0.0, self._due - time.monotonic()) if self._flight and not self._done else None

    def DTLSv1_handle_timeout(self) -> bool:  # noqa: N802
        """Retransmit the flight."""
        self._timeout = min(2 * self._timeout, MAX_TIMEOUT_SECONDS)
        self._send()
        return True

    def shutdown(self) -> bool:
        """Send ``close_notify``."""
        if self._done:
            self._outgoing += self._pack(1, ALERT, CLOSE_NOTIFY)
        return False

    def get_peer_certificate(self, *, as_cryptography: bool = True) -> x509.Certificate | None:
        """The server's certificate. The server has proved that it owns the key; nothing else was checked."""
        return self._peer

    def get_selected_srtp_profile(self) -> bytes:
        """OpenSSL's name for the SRTP profile that the server chose."""
        return SRTP_PROFILES.get(self._profile, b"")

    def export_keying_material(self, label: bytes, size: int) -> bytes:
        """Key material for SRTP (RFC 5705)."""
        return self._prf(self._master, label, self._client_random + self._server_random, size)

    # The handshake.

    def _handle_record(self, one: Record) -> None:
        content = one.content
        if one.epoch == 1:
            if self._decrypt is None or one.number in self._received_records:
                return
            try:
                content = self._decrypt(one)
            except InvalidTag:
                return
            self._received_records.add(one.number)
        elif one.epoch or self._done:
            return
        if one.kind == HANDSHAKE:
            self._messages.add(content)
            while not self._failed and (message := self._messages.next()) is not None:
                if (message.kind == FINISHED) != (one.epoch == 1):
                    raise HandshakeError("Finished must be encrypted, and nothing else is")
                self._handle_message(message)
        elif one.kind == ALERT and one.epoch == 1 and content == CLOSE_NOTIFY:
            self._closed = True
        elif one.kind == ALERT and not self._done and content[:1] == b"\x02":
            raise HandshakeError(f"the peer sent alert {content[1]}")

    def _handle_message(self, message: Message) -> None:
        expected: dict[int, Callable[[bytes], None]] = {
            SERVER_HELLO: self._server_hello,
            CERTIFICATE: self._server_certificate,
            SERVER_KEY_EXCHANGE: self._key_exchange,
            CERTIFICATE_REQUEST: self._certificate_request,
            SERVER_HELLO_DONE: self._server_done,
            FINISHED: self._finished,
        }
        if message.kind not in expected or not self._in_order(message.kind):
            raise HandshakeError(f"a handshake message of type {message.kind} is out of order")
        if message.kind != FINISHED:  # it covers only the messages before it
            self._transcript += message.to_bytes()
        expected[message.kind](message.body)

    def _in_order(self, kind: int) -> bool:
        if kind == SERVER_HELLO:
            return not self._server_random
        if kind == CERTIFICATE:
            return bool(self._server_random) and self._peer is None
        if kind == SERVER_KEY_EXCHANGE:
            return self._peer is not None and not self._server_share
        if kind in (CERTIFICATE_REQUEST, SERVER_HELLO_DONE):
            return (
                bool(self._server_share)
                and not self._flight
                and not (kind == CERTIFICATE_REQUEST and self._certificate_requested)
            )
        return bool(self._flight) and not self._done

    def _server_hello(self, body: bytes) -> None:
        at = 35 + body[34]
        self._server_random, self._suite = body[2:34], body[at : at + 2]
        if body[:2] != DTLS_1_2 or self._suite not in (AES_GCM, CHACHA) or body[at + 2] != 0:
            raise HandshakeError("the server chose a version or a cipher suite that was not offered")
        at += 5
        while at + 4 <= len(body):
            kind, size = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
            value = body[at + 4 : at + 4 + size]
            if kind == EXTENDED_MASTER_SECRET:
                self._extended = True
            elif kind == USE_SRTP and len(value) >= 4:
                self._profile = int.from_bytes(value[2:4], "big")
            at += 4 + size
        if self._profile not in SRTP_PROFILES:
            raise HandshakeError("the server chose no SRTP profile")

    def _server_certificate(self, body: bytes) -> None:
        self._peer = certificate_in(body)

    def _key_exchange(self, body: bytes) -> None:
        if body[0] != 3:
            raise HandshakeError("the server did not choose a named curve")
        self._group, size = int.from_bytes(body[1:3], "big"), body[3]
        end = 4 + size
        self._server_share, signed = body[4:end], self._client_random + self._server_random + body[:end]
        digest, algorithm, length = body[end], body[end + 1], int.from_bytes(body[end + 2 : end + 4], "big")
        public = self._peer.public_key() if self._peer else None
        if algorithm != ECDSA or digest not in SIGNATURE_HASHES or not isinstance(public, ec.EllipticCurvePublicKey):
            raise HandshakeError("the server signs with an algorithm that was not offered")
        public.verify(body[end + 4 : end + 4 + length], signed, ec.ECDSA(SIGNATURE_HASHES[digest]))

    def _certificate_request(self, body: bytes) -> None:
        self._certificate_requested = True

    def _server_done(self, body: bytes) -> None:
        share, secret = self._agree()
        flight = []
        if self._certificate_requested:
            own = self._certificate.public_bytes(serialization.Encoding.DER)
            flight.append(self._message(CERTIFICATE, _with_length(_with_length(own, 3), 3)))
        flight.append(self._message(CLIENT_KEY_EXCHANGE, _with_length(share, 1)))
        if self._extended:
            digest = hashlib.sha256(self._transcript).digest()
            self._master = self._prf(secret, b"extended master secret", digest, 48)
        else:
            self._master = self._prf(secret, b"master secret", self._client_random + self._server_random, 48)
        if self._certificate_requested:
            signature = self._key.sign(self._transcript, ec.ECDSA(hashes.SHA256()))
            flight.append(self._message(CERTIFICATE_VERIFY, bytes([4, ECDSA]) + _with_length(signature, 2)))
        verify = self._prf(self._master, b"client finished", hashlib.sha256(self._transcript).digest(), 12)
        finished = self._message(FINISHED, verify)
        self._make_keys()
        self._flight = [(0, HANDSHAKE, message) for message in flight]
        self._flight += [(0, CHANGE_CIPHER_SPEC, b"\x01"), (1, HANDSHAKE, finished)]
        self._send()

    def _finished(self, body: bytes) -> None:
        digest = hashlib.sha256(self._transcript).digest()
        if not hmac.compare_digest(body, self._prf(self._master, b"server finished", digest, 12)):
            raise HandshakeError("the server's Finished does not match this handshake")
        self._done = True

    def _agree(self) -> tuple[bytes, bytes]:
        """Our public key and the shared secret (RFC 8422 section 5.10)."""
        if self._group == X25519:
            mine = x25519.X25519PrivateKey.generate()
            return mine.public_key().public_bytes_raw(), mine.exchange(
                x25519.X25519PublicKey.from_public_bytes(self._server_share)
            )
        if self._group not in NAMED_CURVES:
            raise HandshakeError("the server chose a curve that was not offered")
        curve = NAMED_CURVES[self._group]
        own = ec.generate_private_key(curve)
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(curve, self._server_share)
        encoding, form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        return own.public_key().public_bytes(encoding, form), own.exchange(ec.ECDH(), theirs)

    def _message(self, kind: int, body: bytes) -> bytes:
        made = Message(kind, self._sequence, body).to_bytes()
        self._sequence += 1
        self._transcript += made
        return made

    def _send(self) -> None:
        self._outgoing += b"".join(self._pack(*part) for part in self._flight)
        self._due = time.monotonic() + self._timeout

    def _pack(self, epoch: int, kind: int, content: bytes) -> bytes:
        if epoch == 1:
            assert self._encrypt is not None
            return self._encrypt(kind, content)
        self._records += 1
        return encode_record(kind, 0, self._records, content)

    def _make_keys(self) -> None:
        aes = self._suite == AES_GCM
        key, salt = (16, 4) if aes else (32, 12)
        seed = self._server_random + self._client_random
        block = self._prf(self._master, b"key expansion", seed, 2 * (key + salt))
        cipher: Any = AESGCM if aes else ChaCha20Poly1305
        ours, theirs = cipher(block[:key]), cipher(block[key : 2 * key])
        our_salt, their_salt = block[2 * key : 2 * key + salt], block[2 * key + salt :]

        def nonce(salt: bytes, counter: bytes) -> bytes:
            if aes:  # RFC 5288 section 3
                return salt + counter
            return bytes(a ^ b for a, b in zip(salt, bytes(4) + counter, strict=True))  # RFC 7905 section 2

        def encrypt(kind: int, content: bytes) -> bytes:
            counter = (1 << 48 | self._encrypted_records).to_bytes(8, "big")
            self._encrypted_records += 1
            additional_data = counter + bytes([kind]) + DTLS_1_2 + len(content).to_bytes(2, "big")
            sealed = ours.encrypt(nonce(our_salt, counter), content, additional_data)
            return encode_record(kind, 1, self._encrypted_records - 1, counter + sealed if aes else sealed)

        def decrypt(one: Record) -> bytes:
            counter = (1 << 48 | one.number).to_bytes(8, "big")
            explicit, sealed = (one.content[:8], one.content[8:]) if aes else (counter, one.content)
            if len(sealed) < 16:
                raise InvalidTag
            additional_data = counter + bytes([one.kind]) + DTLS_1_2 + (len(sealed) - 16).to_bytes(2, "big")
            return bytes(theirs.decrypt(nonce(their_salt, explicit), sealed, additional_data))

        self._encrypt, self._decrypt = encrypt, decrypt

    @staticmethod
    def _prf(secret: bytes, label: bytes, seed: bytes, size: int) -> bytes:
        """The pseudo-random function of both cipher suites (RFC 5246 section 5)."""
        seed = a = label + seed
        out = b""
        while len(out) < size:
            a = hmac.digest(secret, a, "sha256")
            out += hmac.digest(secret, a + seed, "sha256")
        return out[:size]


def certificate_in(body: bytes) -> x509.Certificate:
    """The first certificate of a Certificate message; raises ``ValueError``."""
    return x509.load_der_x509_certificate(body[6 : 6 + int.from_bytes(body[3:6], "big")])


def _with_length(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "big") + data
