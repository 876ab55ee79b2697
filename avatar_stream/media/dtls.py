"""DTLS with all peers that authenticate as WebRTC requires (RFC 8827 section 6.5), whatever their certificate.

aiortc 1.16 offers cipher suites for ECDSA certificates only, and OpenSSL refuses a certificate on a curve that it did
not offer. GStreamer's certificates are RSA; FFmpeg's, made by GnuTLS, are ECDSA on P-224. Both led to a fatal alert
if we are the DTLS client, which we are for every offer with ``passive`` or ``actpass``.

A certificate is checked only against the fingerprint in the offer. All cipher suites have forward secrecy (ECDHE).
"""

from typing import Any, Final

from aiortc import RTCPeerConnection
from cryptography.hazmat.primitives.asymmetric import ec

from avatar_stream.media.dtls_client import CERTIFICATE, HANDSHAKE, DtlsClient, certificate_in
from avatar_stream.media.dtls_records import Assembler, Message, split_records
from avatar_stream.media.packet_filter import dtls_transports

CIPHERS: Final = ("AES128-GCM-SHA256", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA")
CIPHER_LIST: Final = ":".join(f"ECDHE-{kind}-{cipher}" for kind in ("ECDSA", "RSA") for cipher in CIPHERS)
"""aiortc's ciphers for both kinds of certificate, in OpenSSL's syntax."""

OFFERED_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
MIN_CURVE_BITS: Final = 224
"""Minimum size of a certificate's curve: 112 bits of security, as RSA with 2048 bits."""

CLIENT_HELLO, HELLO_VERIFY_REQUEST = 1, 3


def accept_certificates(pc: RTCPeerConnection) -> None:
    """Accept RSA certificates, and ECDSA certificates on any common curve; call before ICE has connected."""
    for dtls in dtls_transports(pc):
        certificate = dtls._RTCDtlsTransport__local_certificate
        certificate._create_ssl_context = _with_rsa(certificate._create_ssl_context)
        dtls._do_handshake = _with_any_curve(dtls, certificate)


def _with_rsa(create: Any) -> Any:
    def context(*args: Any, **kwargs: Any) -> Any:
        made = create(*args, **kwargs)
        made.set_cipher_list(CIPHER_LIST.encode())
        return made

    return context


def _with_any_curve(dtls: Any, certificate: Any) -> Any:
    handshake = dtls._do_handshake

    async def do_handshake() -> None:
        if dtls._role == "client":
            dtls._ssl = AnyCurveConnection(dtls._ssl, certificate._key, certificate._cert)
        await handshake()

    return do_handshake


class AnyCurveConnection:
    """A DTLS client: OpenSSL's, or :class:`DtlsClient` if OpenSSL would refuse the curve of the server's certificate.

    It delegates to a pyOpenSSL ``Connection`` until the server's certificate arrives. If OpenSSL would refuse it, a
    :class:`DtlsClient` continues the handshake, and OpenSSL never receives the certificate.
    """

    def __init__(self, connection: Any, key: Any, certificate: Any) -> None:
        self._connection = connection
        self._key, self._certificate = key, certificate
        self._hello: Message | None = None
        self._server = Assembler()
        self._server_messages: list[Message] = []
        self._decided = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def bio_read(self, size: int) -> bytes:
        """Return at most ``size`` bytes to be sent, and remember the ClientHello."""
        data = bytes(self._connection.bio_read(size))
        if not self._decided:
            self._remember_hello(data)
        return data

    def bio_write(self, data: bytes) -> int:
        """Process a received datagram; look for the server's certificate in it."""
        if not self._decided:
            self._inspect(data)
        self._connection.bio_write(data)
        return len(data)

    def _remember_hello(self, data: bytes) -> None:
        for one in split_records(data):
            hello = Assembler(one.content[5]) if one.kind == HANDSHAKE and len(one.content) > 5 else None
            if hello is None:
                continue
            hello.add(one.content)
            message = hello.next()
            if message is not None and message.kind == CLIENT_HELLO:
                self._hello = message

    def _inspect(self, data: bytes) -> None:
        for one in split_records(data):
            if one.kind != HANDSHAKE or one.epoch:
                continue
            self._server.add(one.content)
            while not self._decided and (message := self._server.next()) is not None:
                if message.kind != HELLO_VERIFY_REQUEST:
                    self._server_messages.append(message)
                if message.kind == CERTIFICATE:
                    self._decided = True
                    if self._hello is not None and _is_refused_by_openssl(message.body):
                        client = DtlsClient(self._hello, self._server, self._key, self._certificate)
                        client.begin(self._server_messages)
                        self._connection = client


def _is_refused_by_openssl(body: bytes) -> bool:
    """Whether OpenSSL would refuse the curve of a Certificate message that we accept."""
    try:
        public = certificate_in(body).public_key()
    except Exception:  # OpenSSL reports what is wrong with it
        return False
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    return public.curve.name not in OFFERED_CURVES and public.key_size >= MIN_CURVE_BITS
