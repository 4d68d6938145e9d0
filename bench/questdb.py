"""The same year of minutes out of QuestDB, a time-series database known for speed: its CSV and Parquet over HTTP, its
numbers doubles, as it is mostly used, or decimals, which alone keep every digit.

Its jar is fetched by Maven, and runs on the Java that runs Kafka.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from barwright.embedded import packages
from barwright.embedded.ports import free_port
from bench import export

VERSION = "9.3.4"
TABLE = (
    "create table {} (bucket timestamp, open {number}, high {number}, low {number}, close {number}, volume {number}, "
    "quote_volume {number}, vwap {number}, trades long, buy_volume {number}, imported boolean, closed boolean) "
    "timestamp(bucket) partition by month"
)
TYPES = {"double": "double", "decimal": "decimal(38, 18)"}
SETTINGS = """
http.bind.to=127.0.0.1:{port}
http.min.enabled=false
pg.enabled={pg}
pg.net.bind.to=127.0.0.1:{pg_port}
line.tcp.enabled=false
telemetry.enabled=false
"""


def measure(dsn: str, redis_url: str, home: Path, rounds: int = 5) -> dict[str, Any]:
    """On a database that `export.measure` has filled: medians in seconds, ours beside QuestDB's in the same rounds."""
    with export.server(dsn, redis_url) as (ours, _), server(home) as port:
        rows = get(ours, "/v1/bars?symbol=S0&interval=1m&format=csv&start={start}&end={end}".format(**export.SPAN))
        for name, kind in TYPES.items():
            load(port, name, kind, rows)
        found = [
            {
                **{f"ours_{format}": export.read(ours, format)[0] for format in ("csv", "parquet", "arrow")},
                **{f"{name}_{format}": read(port, name, format) for name in TYPES for format in ("csv", "parquet")},
            }
            for _ in range(rounds)
        ]
    return {f"{name}_s": round(statistics.median(times[name] for times in found), 2) for name in found[0]}


@contextmanager
def server(home: Path, pg_port: int = 0) -> Iterator[int]:
    """QuestDB on loopback; the port of its HTTP. With `pg_port` it also speaks PostgreSQL's protocol there."""
    port, folder = free_port(0), home / "questdb"
    jar = fetched(home)
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "server.conf").write_text(
        SETTINGS.format(port=port, pg=str(bool(pg_port)).lower(), pg_port=pg_port)
    )
    command = [packages.java(), "-Xmx2g", "-p", jar, "-m", "io.questdb/io.questdb.ServerMain", "-d", folder]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    try:
        for used in filter(None, (port, pg_port)):
            _listens(used, process)
        ask(port, "select 1")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until it does. Raises TimeoutError after two minutes, or when the process has ended."""
    for _ in range(1200):
        with socket.socket() as link:
            if link.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise TimeoutError(f"QuestDB does not listen on port {port}")


def fetched(home: Path) -> Path:
    """The jar, by Maven: on the system's Java, to which the options that tests give to ours mean nothing."""
    artifact = f"org.questdb:questdb:{VERSION}"
    command = ["mvn", "-B", "-q", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={home}"]
    environment = {name: value for name, value in os.environ.items() if name != "JDK_JAVA_OPTIONS"}
    subprocess.run(command, check=True, env=environment, cwd=home)
    return home / f"questdb-{VERSION}.jar"


def get(port: int, path: str) -> bytes:
    """A whole answer."""
    with urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return bytes(answer.read())


def ask(port: int, query: str) -> Any:
    """The rows of a query."""
    answer = json.loads(get(port, f"/exec?query={quote(query)}"))
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer.get("dataset")


def load(port: int, name: str, kind: str, rows: bytes) -> None:
    """Make a table of our CSV."""
    ask(port, TABLE.format(name, number=kind))
    schema = json.dumps([{"name": "bucket", "type": "TIMESTAMP", "pattern": "yyyy-MM-ddTHH:mm:ssZ"}])
    parts = {'name="schema"': schema.encode(), 'name="data"; filename="bars.csv"': rows}
    body = b"".join(
        b"--part\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (head.encode(), part)
        for head, part in parts.items()
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    path = f"/imp?name={name}&timestamp=bucket&partitionBy=MONTH"
    connection.request("POST", path, body + b"--part--\r\n", {"Content-Type": "multipart/form-data; boundary=part"})
    answer = connection.getresponse().read().decode()
    connection.close()
    wanted = rows.count(b"\n") - 1
    for _ in range(600):
        if ask(port, f"select count() from {name}") == [[wanted]]:
            return
        time.sleep(0.1)
    raise RuntimeError(f"QuestDB did not take all {wanted} rows:\n{answer}")


def read(port: int, name: str, format: str) -> float:
    """Seconds of an export of the whole table, by time as it is stored."""
    return export.drained(port, f"/exp?fmt={format}&query={quote(f'select * from {name}')}")[0]
