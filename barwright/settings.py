"""Every setting, read once from the environment and passed down. `barwright config` prints this page.

Each variable NAME may be given as NAME_FILE: the file that holds its value.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from barwright import retention
from barwright.environment import Environment


def _shared(name: str) -> AliasChoices:
    """A variable that other programs read too (psql scripts, Kafka tools), so it carries no prefix of ours."""
    return AliasChoices(name)


class Settings(BaseSettings):
    """Barwright's configuration. A setting is read from BARWRIGHT_<NAME> unless it says otherwise."""

    model_config = SettingsConfigDict(env_prefix="BARWRIGHT_", extra="ignore", populate_by_name=True)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code, then the environment with its files."""
        return init_settings, Environment(settings_cls)

    database_url: str = Field(
        "",
        validation_alias=_shared("DATABASE_URL"),
        description="PostgreSQL or TimescaleDB DSN; empty: libpq's PG* variables",
    )
    database_password: SecretStr = Field(
        SecretStr(""),
        validation_alias=_shared("DATABASE_PASSWORD"),
        description="the database's password, where the DSN or the PG* variables have none",
    )
    database_read_url: str = Field(
        "",
        validation_alias=_shared("DATABASE_READ_URL"),
        description="DSN of a standby of DATABASE_URL's server that the API reads from; empty: none",
    )
    replica_lag: float = Field(
        5.0, gt=0, description="seconds that standby may be behind before the API reads from the primary again"
    )
    pooler: Literal["none", "transaction"] = Field(
        "none",
        description="what stands before the database: transaction, a pooler that gives a server out for a transaction "
        "(PgBouncer); not for ingest and maintain",
    )
    kafka_bootstrap_servers: str = Field(
        "127.0.0.1:9092", validation_alias=_shared("KAFKA_BOOTSTRAP_SERVERS"), description="Kafka brokers, host:port,…"
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        validation_alias=_shared("REDIS_URL"),
        description="Redis or Valkey: redis://, rediss:// (TLS), redis+sentinel://HOST:PORT,…/MASTER/0, "
        "redis+cluster://HOST:PORT,…; everything works without it, slower",
    )

    kafka_client: Literal["kafka-python", "confluent"] = Field(
        "kafka-python",
        validation_alias=_shared("KAFKA_CLIENT"),
        description="what ingest consumes with: confluent needs barwright[fast]",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", validation_alias=_shared("KAFKA_SECURITY_PROTOCOL"), description="how brokers are spoken to"
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", validation_alias=_shared("KAFKA_SASL_MECHANISM"), description="how a user proves itself to brokers"
    )
    kafka_sasl_username: str = Field("", validation_alias=_shared("KAFKA_SASL_USERNAME"), description="that user")
    kafka_sasl_password: SecretStr = Field(
        SecretStr(""), validation_alias=_shared("KAFKA_SASL_PASSWORD"), description="its password"
    )
    kafka_ssl_ca: str = Field(
        "",
        validation_alias=_shared("KAFKA_SSL_CA"),
        description="PEM file that brokers' certificates are checked against; empty: the system's",
    )
    kafka_ssl_certificate: str = Field(
        "", validation_alias=_shared("KAFKA_SSL_CERTIFICATE"), description="our own certificate, a PEM file"
    )
    kafka_ssl_key: str = Field("", validation_alias=_shared("KAFKA_SSL_KEY"), description="its key, a PEM file")
    kafka_ssl_key_password: SecretStr = Field(
        SecretStr(""), validation_alias=_shared("KAFKA_SSL_KEY_PASSWORD"), description="what opens that key"
    )
    kafka_ssl_check_hostname: bool = Field(
        True,
        validation_alias=_shared("KAFKA_SSL_CHECK_HOSTNAME"),
        description="whether a broker's certificate must bear the name it is reached by",
    )
    redis_password: SecretStr = Field(
        SecretStr(""), validation_alias=_shared("REDIS_PASSWORD"), description="password where REDIS_URL has none"
    )
    redis_ssl_ca: str = Field(
        "",
        validation_alias=_shared("REDIS_SSL_CA"),
        description="PEM file of authorities that a rediss:// server's certificate may be of, besides the system's",
    )
    redis_ssl_certificate: str = Field(
        "", validation_alias=_shared("REDIS_SSL_CERTIFICATE"), description="our own certificate, a PEM file"
    )
    redis_ssl_key: str = Field("", validation_alias=_shared("REDIS_SSL_KEY"), description="its key, a PEM file")

    home: Path = Field(Path(".barwright"), description="where `barwright run` keeps its servers' data")
    jars: Path = Field(Path(".jars"), description="where `barwright run` keeps Kafka's jars, fetched once by Maven")
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        description="port of the API; 0 takes a free one, as the servers of `barwright run` then do",
    )
    tls_certificate: str = Field("", description="the API's certificate and its chain, a PEM file; empty: no TLS")
    tls_key: str = Field("", description="its key, a PEM file; empty: it is in the certificate's file")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")

    metrics: str = Field(
        "", description="host:port on which a role answers /metrics, /health/live and /health/ready; empty: nowhere"
    )
    stuck_after: float = Field(
        30.0, gt=0, description="seconds after which a role whose loop does not turn is no longer called alive"
    )

    engine: Literal["auto", "timescaledb", "postgres"] = Field(
        "auto", description="engine built by `barwright migrate`; auto: by what the server offers"
    )

    role_prefix: str = Field(
        "barwright",
        pattern=r"^[a-z_][a-z0-9_]{0,39}$",
        description="what the database roles' names begin with; one for each database of a server that is not to share "
        "them",
    )

    feed_password: SecretStr = Field(SecretStr(""), description="`barwright migrate` gives it to the role of feed,")
    ingest_password: SecretStr = Field(SecretStr(""), description="… of ingest,")
    maintain_password: SecretStr = Field(SecretStr(""), description="… of maintain,")
    api_password: SecretStr = Field(SecretStr(""), description="… of the API,")
    read_password: SecretStr = Field(SecretStr(""), description="… of people and Grafana, who only read bars")

    timescaledb_minimum: str = Field(
        "2.29.2", description="oldest TimescaleDB accepted; older ones have known data loss (tests use 2.23 in WASM)"
    )

    tick_topic: str = Field("tick-data", description="the fixed topic with live ticks")
    tick_partitions: int = Field(6, ge=1, description="partitions of the fixed topic when Barwright creates it")
    tick_pattern: str = Field("", description="regular expression of further topics with live ticks; empty: none")
    decoders: str = Field(
        "",
        description="formats of other programs' topics: PATTERN=FORMAT[:SYMBOL];… (cryptofeed, binance, cryptocompare, "
        "native; a symbol is written as {exchange}:{base}{quote})",
    )
    dynamic_pattern: str = Field("^dynamic-.*", description="regular expression of the topics with history")
    group: str = Field("barwright", description="prefix of the Kafka consumer groups' names")
    batch_rows: int = Field(10_000, ge=1, le=100_000, description="most rows in one ingest transaction")
    most_symbols: int = Field(
        100_000, ge=1, description="symbols there may be: ticks of further ones are dead letters; the API takes more"
    )
    unpacked_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024 * 1024,
        description="most bytes of a compressed batch once unpacked by kafka-python; a larger one is a dead letter",
    )
    writers: int = Field(2, ge=1, le=8, description="database connections one ingest process writes with")
    future_skew: float = Field(5.0, ge=0, description="seconds a tick may lie ahead of the clock before it is refused")

    seal_lag: float = Field(2.0, ge=0, description="seconds the seal trails the database's clock")
    maintain_interval: float = Field(1.0, gt=0, description="seconds between two rounds of maintain")

    page_cache_bars: int = Field(500_000, ge=0, description="closed bars one API process keeps in memory")
    page_ttl: int = Field(86_400, ge=1, description="seconds a closed page stays in Redis; must be below revision_days")
    revision_days: float = Field(7.0, gt=1, description="days the revision log is kept")
    database_pool: int = Field(8, ge=1, description="database connections of one API process")

    keys: Literal["auto", "on", "off"] = Field(
        "auto", description="whether clients need a key; auto: off on a loopback address, on elsewhere (off is refused)"
    )
    allowed_hosts: str = Field(
        "",
        description="names clients reach the API by, name,… (.example.com: all below it; *: any); addresses, localhost "
        "and, with keys, this machine's own name always work",
    )
    cors_origins: str = Field(
        "", description="origins whose pages may use the API, https://…,… (*: any may read); localhost without keys"
    )
    rate_limit: int | None = Field(
        None,
        ge=0,
        description="points a minute for each key (without keys: each address); a request costs 1, and 1 for each 1000 "
        "bars asked for; 0: no limit; empty: 6000 with keys, none without",
    )
    trusted_proxies: str = Field(
        "", description="addresses of proxies whose X-Forwarded-For and -Proto are believed, address,… (*: all)"
    )

    feed_sources: str = Field("simulator,cryptocompare,ccxt:*,kafka", description="sources this feed works for")
    heartbeat: float = Field(30.0, gt=0, description="seconds between an exchange's heartbeats until two were seen")
    live_margin: float = Field(1.0, ge=0, description="seconds coverage stays behind the newest frame (disorder)")
    backfill_workers: int = Field(4, ge=1, description="histories one feed fetches at the same time from one source")
    correction_hours: float = Field(24.0, gt=0, description="hours between two imports of the last day's bars")
    topic_quiet: float = Field(300.0, gt=0, description="seconds after which a symbol's dynamic topic is deleted")

    raw_retention_days: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="days ticks (and imported minutes) are kept: older ones are dropped and refused, their bars stay; "
        "empty: for ever",
    )
    compress_after_days: float = Field(
        7.0, ge=0, allow_inf_nan=False, description="days after which TimescaleDB compresses what is closed; 0: never"
    )
    level_retention: str = Field(
        "",
        description="days bars are kept, LEVEL=DAYS,… (1m=730,5m=1825), none shorter than what it is made of; "
        "levels not named, and 1d, are kept for ever",
    )
    refresh_floor_days: float | None = Field(
        None,
        ge=retention.LEAST_FLOOR,
        allow_inf_nan=False,
        description="days back that TimescaleDB's own refresh looks while no maintain runs; empty: 30, and a day less "
        "than ticks are kept",
    )
    chunk_hours: int | None = Field(
        None,
        description="hours of ticks in a chunk or partition; empty: by the data rate (bench/README.md has the rule)",
    )

    cryptocompare_rest_url: str = Field(
        "https://min-api.cryptocompare.com",
        validation_alias=_shared("CRYPTOCOMPARE_REST_URL"),
        description="CryptoCompare's REST address, or a compatible one",
    )
    cryptocompare_ws_url: str = Field(
        "wss://streamer.cryptocompare.com/v2",
        validation_alias=_shared("CRYPTOCOMPARE_WS_URL"),
        description="its WebSocket",
    )
    cryptocompare_api_key: SecretStr = Field(
        SecretStr(""), validation_alias=_shared("CRYPTOCOMPARE_API_KEY"), description="its key"
    )

    simulator_symbols: str = Field(
        "BTCUSD,ETHUSD,SOLUSD,XRPUSD,EUR/USD", description="symbols that `make run` registers at its own exchange"
    )
    simulator_seed: int = Field(1, description="seed of the simulated market")
    simulator_url: str = Field(
        "http://127.0.0.1:8100", validation_alias=_shared("SIMULATOR_URL"), description="the simulated exchange"
    )
    simulator_market_rate: float = Field(8.0, gt=0, description="trades per second of one of its busy markets")
    simulator_listed: str = Field("", description="since when some of its markets are traded, market=time,…")
    simulator_minute_days: float = Field(30.0, ge=0, description="days its minute history reaches back; 0: all")
    simulator_hour_days: float = Field(0.0, ge=0, description="days its hour history reaches back; 0: all")
    simulator_beyond: Literal["zero", "error", "short"] = Field(
        "zero", description="its answer where history does not reach: rows of zeros, an error, or no rows"
    )
    simulator_limits: str = Field(
        "second=50,minute=1500,hour=50000,opens=30,sockets=100,subs=300",
        description="its limits: REST calls, sockets opened per second, sockets, subscriptions of a socket",
    )
    simulator_key: SecretStr = Field(SecretStr(""), description="the API key it asks for; empty: none")
    simulator_heartbeat: float = Field(5.0, gt=0, description="seconds between its heartbeats")
    simulator_state: Path | None = Field(
        None, description="where it keeps the corrections of its history; empty: simulator.json in the home"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Put DATABASE_PASSWORD into DSNs without one, so that whoever is given one has it."""
        if password := self.database_password.get_secret_value():
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict, make_conninfo

            # Not assigned: what the environment has set is still known by model_fields_set. What is no DSN is told of
            # where it is used.
            with suppress(ProgrammingError):
                for name in ("database_url", *(("database_read_url",) if self.database_read_url else ())):
                    if not conninfo_to_dict(url := self.__dict__[name]).get("password"):
                        self.__dict__[name] = make_conninfo(url, password=password)
        return self

    @field_validator("raw_retention_days", "compress_after_days", "refresh_floor_days", "chunk_hours", mode="before")
    @classmethod
    def _empty(cls, value: object, info: ValidationInfo) -> object:
        """An empty variable is none; for compression that is never."""
        if value != "":
            return value
        return 0 if info.field_name == "compress_after_days" else None

    @field_validator("raw_retention_days")
    @classmethod
    def _kept(cls, days: float | None, info: ValidationInfo) -> float | None:
        if days is not None and "correction_hours" in info.data:
            retention.check_ticks(days, info.data["correction_hours"])
        return days

    @field_validator("compress_after_days", "refresh_floor_days", "level_retention", "chunk_hours")
    @classmethod
    def _fits(cls, value: Any, info: ValidationInfo) -> Any:
        """Nothing is dropped that is still needed; see retention.py."""
        if not value or "raw_retention_days" not in info.data:
            return value
        ticks = info.data["raw_retention_days"]
        match info.field_name:
            case "compress_after_days":
                retention.check_compression(value, ticks)
            case "refresh_floor_days":
                retention.check_floor(value, ticks)
            case "level_retention":
                retention.check_levels(retention.days_of(value), ticks)
            case "chunk_hours" if value not in retention.CHUNK_HOURS:
                raise ValueError(f"take one of {', '.join(map(str, retention.CHUNK_HOURS))}")
        return value

    @property
    def level_days(self) -> dict[str, float]:
        """Days that the bars of a level are kept, by level."""
        return retention.days_of(self.level_retention)

    @property
    def refresh_floor(self) -> float:
        """Days back that the engine's own refresh looks."""
        if self.refresh_floor_days is not None:
            return self.refresh_floor_days
        return min(retention.FLOOR, (self.raw_retention_days or retention.FLOOR + 1) - 1)
