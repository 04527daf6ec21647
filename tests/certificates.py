"""Certificates for tests, from CAs of their own."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of one certificate, with the CA that signed it.

    Attributes:
        ca: the CA's certificate.
        certificate: the chain.
        key: its private key.
    """

    ca: Path
    certificate: Path
    key: Path


class Authority:
    """A CA that writes what it issues into a folder; PEM."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.ca = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *identities: str) -> Certificates:
        """A certificate in files called `name`; for 127.0.0.1 unless it is for others."""
        issued = self._ca.issue_cert(*(identities or ("127.0.0.1", "localhost")), common_name=name)
        files = Certificates(self.ca, self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(files.key)
        return files
