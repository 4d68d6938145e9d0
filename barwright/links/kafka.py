"""Kafka: brokers, TLS and SASL for every client."""

import ssl
from typing import Any

from barwright.errors import BarwrightError
from barwright.links import tls
from barwright.settings import Settings


def options(settings: Settings) -> dict[str, Any]:
    """What every Kafka client is made with. Raises BarwrightError for settings that contradict each other."""
    protocol = settings.kafka_security_protocol
    made: dict[str, Any] = {
        "bootstrap_servers": [broker.strip() for broker in settings.kafka_bootstrap_servers.split(",")],
        "security_protocol": protocol,
    }
    _demand_used(settings)
    if protocol.endswith("SSL"):
        made["ssl_context"] = _context(settings)
    if protocol.startswith("SASL"):
        made |= _sasl(settings)
    return made


def librdkafka(settings: Settings) -> dict[str, Any]:
    """The same for clients of librdkafka (confluent-kafka). Raises BarwrightError."""
    options(settings)  # what is wrong with files and names is told the same way
    protocol = settings.kafka_security_protocol
    made: dict[str, Any] = {"bootstrap.servers": settings.kafka_bootstrap_servers, "security.protocol": protocol}
    if protocol.endswith("SSL"):
        made |= {
            "ssl.ca.location": settings.kafka_ssl_ca,
            "ssl.certificate.location": settings.kafka_ssl_certificate,
            "ssl.key.location": settings.kafka_ssl_key,
            "ssl.key.password": settings.kafka_ssl_key_password.get_secret_value(),
            "ssl.endpoint.identification.algorithm": "https" if settings.kafka_ssl_check_hostname else "none",
        }
    if protocol.startswith("SASL"):
        made |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_sasl_username,
            "sasl.password": settings.kafka_sasl_password.get_secret_value(),
        }
    return {name: value for name, value in made.items() if value != ""}


def _context(settings: Settings) -> ssl.SSLContext:
    return tls.context(
        "KAFKA_SSL", settings.kafka_ssl_ca, settings.kafka_ssl_certificate, settings.kafka_ssl_key,
        settings.kafka_ssl_key_password.get_secret_value(), settings.kafka_ssl_check_hostname,
    )  # fmt: skip


def _sasl(settings: Settings) -> dict[str, Any]:
    user, password = settings.kafka_sasl_username, settings.kafka_sasl_password.get_secret_value()
    if not (settings.kafka_sasl_mechanism and user and password):
        raise BarwrightError(
            f"KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} asks for a user.",
            "Set KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD.",
        )
    names = ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password")
    return dict(zip(names, (settings.kafka_sasl_mechanism, user, password), strict=True))


def _demand_used(settings: Settings) -> None:
    """What is set and would not be used is a mistake: a password in the clear, a certificate that nobody checks."""
    protocol = settings.kafka_security_protocol
    for kind, given, hint in (
        ("SSL", settings.kafka_ssl_ca or settings.kafka_ssl_certificate or settings.kafka_ssl_key, "SSL or SASL_SSL"),
        ("SASL", settings.kafka_sasl_mechanism or settings.kafka_sasl_username, "SASL_SSL"),
    ):
        if given and kind not in protocol:
            raise BarwrightError(
                f"KAFKA_{kind}_… is set, but KAFKA_SECURITY_PROTOCOL={protocol} makes no use of it.",
                f"Set KAFKA_SECURITY_PROTOCOL={hint}.",
            )
