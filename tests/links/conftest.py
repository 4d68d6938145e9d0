"""What the tests of connections share: an authority and another one, Kafka by TLS and SASL."""

import gc
import warnings
from collections.abc import Iterator

import pytest

from barwright.embedded.kafka import Kafka
from tests import services
from tests.links.certificates import Authority

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Clients whose server was killed leave connections open; collected here, they are no later test's."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom our servers are vouched for by."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that vouches for none of them."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="session")
def safe_kafka(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Kafka]:
    """Kafka with SASL_SSL as its only listener: user barwright has the password `secret`."""
    users = f'{_PLAIN} required username="broker" password="own" user_broker="own" user_barwright="secret";'
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority.chain("broker")),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.ca),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": users,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
    }
    broker = Kafka(tmp_path_factory.mktemp("safe-kafka"), services.JARS, settings=settings, protocol="SASL_SSL")
    services.demand(broker)
    broker.start()
    yield broker
    broker.stop()
