"""Self-signed certificates made by the openssl command, and their SHA-256 for clients that pin."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A PEM certificate with its key, good for localhost, 127.0.0.1 and ::1."""

    cert_path: Path
    key_path: Path

    def sha256_hex(self) -> str:
        """SHA-256 of the DER certificate: what Xray calls `pinnedPeerCertSha256` and links call `pcs`."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.cert_path.read_text())).hexdigest()


def make_certificate(folder: Path, name: str) -> Certificate:
    """Writes `NAME.crt` and `NAME.key` (ECDSA P-256, two days) into `folder`."""
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
    )
    subprocess.run(
        [*command.split(), "-keyout", made.key_path, "-out", made.cert_path],
        check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=30,
    )  # fmt: skip
    return made
