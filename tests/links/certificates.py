"""Certificates for tests, made by openssl: an authority, and servers that it vouches for."""

import shutil
import subprocess
from pathlib import Path

import pytest

SUBJECT = "subjectAltName=DNS:localhost,IP:127.0.0.1"


class Authority:
    """A certificate authority of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no program openssl, which makes the certificates")
        self.folder = folder
        self.ca, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self._make(self.ca, self._key, f"/CN={name}", *usage)

    def issue(self, name: str, subject: str = SUBJECT) -> tuple[Path, Path]:
        """A certificate for a server or a client, and its key."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        signed = ("-CA", self.ca, "-CAkey", self._key, "-addext", "basicConstraints=critical,CA:FALSE")
        self._make(certificate, key, f"/CN={name}", *signed, "-addext", subject)
        return certificate, key

    def chain(self, name: str) -> Path:
        """The same as one file, the key first."""
        certificate, key = self.issue(name)
        both = self.folder / f"{name}-chain.pem"
        both.write_text(key.read_text() + certificate.read_text() + self.ca.read_text())
        return both

    def _make(self, certificate: Path, key: Path, subject: str, *rest: str | Path) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        files: list[str | Path] = ["-keyout", key, "-out", certificate, "-days", "30", "-subj", subject]
        subprocess.run([*command, *files, *rest], check=True, capture_output=True)
