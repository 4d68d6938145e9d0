"""How a client of Kafka begins: by the settings' options, and with one error that says why no broker could be used.

kafka-python says "Unable to bootstrap" whatever was wrong; the reason is in a dozen lines of its logs.
"""

from __future__ import annotations

import logging
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from barwright.errors import BarwrightError
from barwright.links.kafka import options
from barwright.settings import Settings

with warnings.catch_warnings():
    # The library warns about itself on import.
    warnings.simplefilter("ignore")
    from kafka.errors import KafkaError, KafkaTimeoutError, SaslAuthenticationFailedError

Client = TypeVar("Client")
BOOTSTRAP_MS: Final = 5_000
_CERTIFICATE: Final = "CERTIFICATE_VERIFY_FAILED"
_TALKS: Final = ("kafka.net.manager", "kafka.net.connection", "kafka.net.transport")


class UnreachableError(BarwrightError, KafkaError):  # type: ignore[misc]
    """No broker could be used; whoever waits for one may go on waiting."""

    retriable = True


def connected(kind: Callable[..., Client], settings: Settings, **given: Any) -> Client:
    """A client of that kind. Raises UnreachableError, BarwrightError for settings that are wrong."""
    made = options(settings)
    with _quiet() as reasons:
        try:
            return kind(**made, **{"bootstrap_timeout_ms": BOOTSTRAP_MS, **given})
        except KafkaTimeoutError as error:
            raise _explained(settings, _reason(settings, [error, *reasons])) from error


@contextmanager
def _quiet() -> Iterator[list[BaseException]]:
    """Collects why the client could not connect, in place of its logs."""
    reasons: list[BaseException] = []

    def swallow(record: logging.LogRecord) -> bool:
        if record.args and isinstance(record.args, tuple):
            reasons.extend(arg for arg in record.args if isinstance(arg, BaseException))
        return False

    loggers = [logging.getLogger(name) for name in _TALKS]
    for logger in loggers:
        logger.addFilter(swallow)
    try:
        yield reasons
    finally:
        for logger in loggers:
            logger.removeFilter(swallow)


def _reason(settings: Settings, found: list[BaseException]) -> BaseException:
    """What tells most: a refused user or certificate, else what came last but that time was up."""
    told = [error for error in found if "timed out" not in str(error) and not isinstance(error, KafkaTimeoutError)]
    refused = [error for error in told if _refuses(settings, error) or _CERTIFICATE in str(error)]
    return (refused or told or found)[-1]


def _refuses(settings: Settings, error: BaseException) -> bool:
    """Whether the user is not let in. kafka-python 3.0.12 loses what a broker says right before it hangs up."""
    hung_up = settings.kafka_security_protocol.startswith("SASL") and str(error).endswith("socket disconnected")
    return hung_up or isinstance(error, SaslAuthenticationFailedError)


def _explained(settings: Settings, reason: BaseException) -> UnreachableError:
    brokers, protocol = settings.kafka_bootstrap_servers, settings.kafka_security_protocol
    said = str(reason)
    if _CERTIFICATE in said:
        why = said.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        trusted = settings.kafka_ssl_ca or ssl.get_default_verify_paths().cafile or "the system"
        return UnreachableError(
            f"The certificate of Kafka at {brokers} does not pass: {why} (checked against {trusted}).",
            "KAFKA_SSL_CA names the PEM file of the authority that signed it.",
        )
    if _refuses(settings, reason):
        return UnreachableError(
            f"Kafka at {brokers} does not let user {settings.kafka_sasl_username!r} in by "
            f"{settings.kafka_sasl_mechanism}.",
            "Check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM, and KAFKA_SECURITY_PROTOCOL.",
        )
    return UnreachableError(
        f"No Kafka broker answers at {brokers} by {protocol}: {said.partition(': ')[2] or said}.",
        "Check KAFKA_BOOTSTRAP_SERVERS and KAFKA_SECURITY_PROTOCOL.",
    )
