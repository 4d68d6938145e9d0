"""TLS as a client: whom to trust and how to prove who we are, checked before anybody connects."""

import ssl
from pathlib import Path

from barwright.errors import BarwrightError


def context(
    name: str, authority: str, certificate: str, key: str, password: str = "", check_hostname: bool = True
) -> ssl.SSLContext:
    """A client's context: TLS 1.2 or newer, the server's certificate checked against `authority` (a file; empty: the
    system's). `name` is how the settings of these files begin, for messages. Raises BarwrightError.
    """
    check(name, authority, certificate, key)
    made = ssl.create_default_context(cafile=authority or None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = check_hostname
    if certificate:
        _load(made, name, certificate, key, password)
    return made


def demand_usable(name: str, certificate: str, key: str) -> None:
    """Raise BarwrightError where a server could not prove itself with these files."""
    check(name, "", certificate, key)
    if certificate:
        _load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), name, certificate, key)


def _load(made: ssl.SSLContext, name: str, certificate: str, key: str, password: str = "") -> None:
    try:
        made.load_cert_chain(certificate, key or None, password)
    except ssl.SSLError as error:
        raise BarwrightError(
            f"{name}_CERTIFICATE={certificate} and its key are not usable: {error.reason or error}.",
            "Both are PEM, the key fits the certificate, and its password, if it has one, is set.",
        ) from error


def check(name: str, authority: str, certificate: str, key: str) -> None:
    """Raise BarwrightError where a file cannot be read, or is none of certificates."""
    for what, path in (("CA", authority), ("CERTIFICATE", certificate), ("KEY", key)):
        if path:
            _readable(f"{name}_{what}", path)
    if key and not certificate:
        raise BarwrightError(f"{name}_KEY is set without {name}_CERTIFICATE.", "A key proves a certificate: set both.")
    if authority:
        try:
            ssl.create_default_context(cafile=authority)
        except ssl.SSLError as error:
            raise BarwrightError(f"{name}_CA={authority} holds no certificate.", "It is a file in PEM.") from error


def _readable(variable: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        hint = "It takes the path of a file in PEM, not its content."
        raise BarwrightError(f"{variable}={path:.200} cannot be read: {error.strerror}.", hint) from error
