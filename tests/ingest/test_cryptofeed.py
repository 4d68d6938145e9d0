"""cryptofeed itself as a producer, in an environment of its own (its pins are not ours)."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests.ingest.conftest import World, eventually

HERE = Path(__file__).parent

pytestmark = pytest.mark.slow  # half a minute: it has no wheel and is compiled


@pytest.fixture(scope="module")
def cryptofeed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has cryptofeed."""
    home = tmp_path_factory.mktemp("cryptofeed")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = home / "bin" / "python"
    lock = ["--require-hashes", "-r", str(HERE / "cryptofeed.lock")]
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *lock],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"cryptofeed cannot be installed here: {done.stderr.strip()[-300:]}")
    return python


@pytest.mark.parametrize("numbers", ["float", "str"])
def test_what_cryptofeed_publishes_becomes_ticks(world: World, cryptofeed: Path, numbers: str) -> None:
    key = f"trades-{world.settings.group}"
    world.settings = world.settings.model_copy(update={"tick_pattern": f"^{key}-", "decoders": f"^{key}-=cryptofeed"})
    for exchange in ("COINBASE", "BYBIT", "KRAKEN"):
        world.topic(f"{key}-{exchange}-BTC-USD", 1)
    world.start()
    producer = [str(cryptofeed), str(HERE / "cryptofeed_producer.py"), world.settings.kafka_bootstrap_servers, key]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for _ in range(2):  # sent twice, as after a reconnect
        subprocess.run([*producer, numbers], check=True, timeout=60, env=clean)
    # Kraken gives no id: the place in the topic numbers its trades, so what is sent twice counts twice.
    eventually(lambda: world.one("select count(*) from ticks"), 5 + 5 + 10, 60)
    assert world.query("select symbol, seq_rule from symbols order by symbol") == [
        {"symbol": "BYBIT:BTC-USD", "seq_rule": "time"},
        {"symbol": "COINBASE:BTC-USD", "seq_rule": "id"},
        {"symbol": "KRAKEN:BTC-USD", "seq_rule": "offset"},
    ]
    (first, *_) = world.query(
        "select ts, price, size, side, seq from ticks where symbol = 'COINBASE:BTC-USD' order by ts"
    )
    assert (f"{first['ts']:%S.%f}", first["size"], first["side"], first["seq"]) == (
        "20.100003", Decimal("0.00001"), "b", 100,
    )  # fmt: skip
    # As floats, which is cryptofeed's default, digits are lost before they reach us.
    assert first["price"] == Decimal("27180.120000000000001" if numbers == "str" else "27180.12")
    assert not world.query("select reason from dead_letter")
