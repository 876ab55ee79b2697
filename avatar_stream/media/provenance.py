"""Content credentials in rendered files: a C2PA manifest that says that a generative model made them.

It needs the extra ``provenance``. By default this machine's own certificate signs, so readers show "unknown signer":
the signature proves that the file was not changed, but not who made it. ``AVATAR_STREAM_C2PA_CERT`` and
``AVATAR_STREAM_C2PA_KEY`` (PEM files of a chain and its ES256 key) select a certificate that others trust.
"""

import datetime
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from platformdirs import user_data_path

from avatar_stream.errors import BadInput

CERTIFICATE_VARIABLE: Final = "AVATAR_STREAM_C2PA_CERT"
KEY_VARIABLE: Final = "AVATAR_STREAM_C2PA_KEY"
GENERATED_SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CERTIFICATE_YEARS: Final = 10


def installed() -> bool:
    """Whether the library that writes manifests is installed."""
    try:
        import c2pa  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def sign(source: Path, signed: Path, title: str, chain: bytes, key: bytes) -> None:
    """Copy ``source`` (MP4) to ``signed`` with a manifest, signed with ``chain`` and ``key`` (PEM).

    Raises :class:`BadInput` if the manifest cannot be written.
    """
    import c2pa

    info = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=key, ta_url=None)
    manifest = {
        "claim_generator_info": [{"name": "avatar_stream", "version": version("avatar-stream")}],
        "title": title,
        "format": "video/mp4",
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": GENERATED_SOURCE_TYPE}]},
            }
        ],
    }
    try:
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest)) as builder:
            builder.sign_file(source, signed, signer)
    except c2pa.C2paError as error:
        raise BadInput(f"content credentials cannot be written: {error}") from None


def read(path: Path) -> dict[str, Any] | None:
    """Read a file's manifest: what made the file, whether it is declared as generated, whether it was changed since.

    None if the file has no manifest or the library is not installed.
    """
    if not installed():
        return None
    import c2pa

    try:
        with c2pa.Reader(str(path)) as reader:
            found = json.loads(reader.json())
    except (c2pa.C2paError, OSError, ValueError):
        return None
    active = found.get("manifests", {}).get(found.get("active_manifest", ""), {})
    # An untrusted signer alone does not mean that the file was changed.
    wrong = [one.get("code", "") for one in found.get("validation_status") or []]
    wrong = [code for code in wrong if code not in ("signingCredential.untrusted",)]
    generator = (active.get("claim_generator_info") or [{}])[0]
    return {
        "generator": " ".join(filter(None, (generator.get("name"), generator.get("version")))),
        "generated": GENERATED_SOURCE_TYPE in json.dumps(active),
        "intact": not wrong,
        "problems": wrong,
        "signer": active.get("signature_info", {}).get("issuer", ""),
    }


def certificate() -> tuple[bytes, bytes]:
    """A certificate chain and its key, PEM: those of the environment variables, or else this machine's own.

    Raises :class:`BadInput` if they can neither be read nor created.
    """
    given, key = os.environ.get(CERTIFICATE_VARIABLE), os.environ.get(KEY_VARIABLE)
    path = user_data_path("avatar-stream", appauthor=False) / "provenance" / "signer.pem"
    try:
        if given and key:
            return Path(given).read_bytes(), Path(key).read_bytes()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            with open(unfinished, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(b"".join(_new_certificate()))
            os.replace(unfinished, path)
        chain, mark, own = path.read_bytes().partition(b"-----BEGIN PRIVATE KEY-----")
    except OSError as error:
        raise BadInput(f"the certificate for content credentials cannot be read or created: {error}") from None
    return chain, mark + own


def _new_certificate() -> tuple[bytes, bytes]:
    """A chain of a new certificate and its new root, and the certificate's key, PEM, by C2PA's profile."""
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def named(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "avatar_stream on this machine"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    def usage(ca: bool) -> x509.KeyUsage:
        no = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only"), False,
        )  # fmt: skip
        return x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **no)

    def issued(subject: str, public: Any, ca: bool) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("root"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=365 * CERTIFICATE_YEARS))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage(ca), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
            .sign(root_key, hashes.SHA256())
        )

    own, root = issued("renderer", key.public_key(), False), issued("root", root_key.public_key(), True)
    chain = own.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM)
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
