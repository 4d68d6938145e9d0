"""How Barwright itself does. Figures about the whole database are told by every maintain, so they are never summed."""

from typing import Any

from panels import Panel, Row, dashboard

NOW = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "background"}
GOOD = [(None, "green"), (1, "red")]
AREA = {"drawStyle": "line", "fillOpacity": 15}


def rate(name: str, by: str = "") -> str:
    """Per second, over the processes."""
    return f"sum{f' by ({by})' if by else ''} (rate(barwright_{name}[$__rate_interval]))"


def whole(name: str, by: str = "") -> str:
    """A figure about the whole database."""
    return f"max{f' by ({by})' if by else ''} (barwright_{name})"


def share(name: str, quantile: float, by: str = "") -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, sum by ({labels}) (rate(barwright_{name}_bucket[$__rate_interval])))"


def stat(title: str, query: str, help: str, **given: Any) -> Panel:
    """One figure of now."""
    return Panel(title, "stat", [(query, "")], help, width=4, height=4, options=NOW, **given)


def lines(title: str, queries: list[tuple[str, str]], help: str, unit: str = "short", width: int = 8) -> Panel:
    """Figures over time."""
    return Panel(title, "timeseries", queries, help, unit=unit, width=width, custom=AREA)


ROWS = [
    Row("At a glance", [
        stat("Processes", 'sum(up{job="barwright"})', "That Prometheus reaches: 5 in the compose file."),
        stat("Seconds behind", "time() - max(barwright_newest_trade_timestamp_seconds > 0)",
             "Since the newest trade that has landed.", unit="s", steps=[(None, "green"), (10, "orange"), (60, "red")]),
        stat("Consumer lag", "sum(barwright_consumer_lag_messages)", "Records on Kafka that have not landed.",
             steps=[(None, "green"), (10_000, "orange"), (100_000, "red")]),
        stat("Bars overdue", whole("watermark_overdue_seconds"), "For how long bars are over and not closed.", unit="s",
             steps=[(None, "green"), (10, "orange"), (30, "red")]),
        stat("Oldest gap", whole("gap_oldest_age_seconds"), "For how long the oldest gap has been there.", unit="s",
             steps=[(None, "green"), (120, "orange"), (600, "red")]),
        stat("Wrong bars", whole("audit_findings_open"), "Found by the auditor and not repaired.", steps=GOOD),
    ]),
    Row("Ticks", [
        lines("Ticks landed", [(rate("ticks_total", "kind, outcome"), "{{kind}} {{outcome}}")],
              "Committed by ingest; a duplicate was there already.", "cps"),
        lines("Lag", [("sum by (topics) (barwright_consumer_lag_messages)", "{{topics}}")],
              "Records on Kafka that have not landed: live topics, and those with history."),
        lines("Trade to database", [(share("trade_delay_seconds", q), f"p{q * 100:g}") for q in (0.5, 0.99)],
              "From a trade's own time to its commit.", "s"),
        lines("Batches", [(share("batch_duration_seconds", q), f"p{q * 100:g}") for q in (0.5, 0.99)],
              "Time of one transaction in the database.", "s"),
        lines("Dead letters", [(rate("dead_letters_total", "reason"), "{{reason}}")],
              "Messages that could not become rows.", "cps"),
        lines("Late ticks", [(rate("late_ticks_total", "kind"), "{{kind}}")], "Committed below the seal.", "cps"),
    ]),
    Row("Bars", [
        lines("Watermark behind", [(whole("watermark_lag_seconds", "level"), "{{level}}")],
              "The database's clock less each level's watermark; up to the width of its bars is normal.", "s"),
        lines("Overdue", [(whole("watermark_overdue_seconds", "level"), "{{level}}")],
              "For how long the next bar of a level has been over without being closed.", "s"),
        lines("Watermark ahead of now", [(whole("watermark_ahead_seconds"), "ahead")],
              "Above 0, bars hide the ticks that come.", "s"),
        lines("Repairs", [(rate("repaired_ranges_total"), "ranges"),
                          (rate("repair_duration_seconds_count"), "repairs")], "Late ticks put right.", "cps"),
        lines("Awaiting repair", [(whole("late_ranges"), "ranges")], "Spans of late ticks."),
        lines("A round of maintain", [(share("round_duration_seconds", 0.99, "step"), "{{step}}")],
              "The 99th percentile of each step.", "s"),
        lines("Auditor", [("max(rate(barwright_audited_bars_total[$__rate_interval]))", "bars"),
                          ("max(rate(barwright_audit_findings_total[$__rate_interval]))", "found wrong")],
              "Closed bars compared with their ticks.", "cps"),
    ]),
    Row("History", [
        lines("Gaps", [(whole("gaps"), "spans")], "Missing, or awaiting repair."),
        lines("Missing", [(whole("gap_missing_seconds"), "missing")], "Length of all gaps.", "s"),
        lines("Backfills", [(whole("backfill_tasks", "status"), "{{status}}"),
                            (whole("backfill_failing_tasks"), "failing")], "Open tasks."),
        lines("Live connections", [("sum by (source) (barwright_feed_connections)", "{{source}}")], "That stream now."),
        lines("Feed", [(rate("feed_trades_total", "source"), "{{source}} trades")],
              "Trades received from sources.", "cps"),
        lines("Feed's failures", [(rate("feed_delivery_failures_total", "topics"), "not delivered: {{topics}}")],
              "Records that Kafka did not take.", "cps"),
    ]),
    Row("API", [
        lines("Requests", [(rate("http_request_duration_seconds_count", "status"), "{{status}}")], "By status.",
              "reqps"),
        lines("Latency", [(share("http_request_duration_seconds", q), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
              "Until the last byte; of streams, until the first.", "s"),
        lines("Slowest routes", [(f"topk(5, {share('http_request_duration_seconds', 0.99, 'route')})", "{{route}}")],
              "The 99th percentile.", "s"),
        lines("Cache hits", [(
            'sum by (layer) (rate(barwright_cache_requests_total{result="hit"}[$__rate_interval])) / '
            "(sum by (layer) (rate(barwright_cache_requests_total[$__rate_interval])) > 0) "
            "or sum by (layer) (barwright_cache_requests_total * 0)", "{{layer}}")],
            "Of what each layer was asked for; 0 where it was not asked.", "percentunit"),
        lines("Streams", [("sum by (protocol) (barwright_streams)", "{{protocol}}")], "Open connections."),
        lines("Database pool", [("sum by (pool, state) (barwright_database_connections)", "{{pool}} {{state}}"),
                                ("sum by (pool) (barwright_database_requests_waiting)", "{{pool}} waiting")],
              "Connections of the API, and requests that wait for one."),
        lines("Reads from", [("sum by (server) (barwright_reads_from)", "{{server}}")],
              "How many processes of the API read from the primary, and from the standby."),
        lines("Standby behind", [(
            "max(barwright_replica_lag_seconds) or "
            '(0 * max(barwright_reads_from) unless on() count(barwright_reads_from{server="standby"}))', "behind")],
            "As the API measures it: 0 where there is no standby, nothing while it does not answer.", "s"),
    ]),
    Row("Processes", [
        Panel("What runs", "table", [("sum by (role, version, engine) (barwright_build_info)", "")],
              "Roles, by version and engine.", width=8),
        lines("Machines", [(whole("actors", "role, machine, state"), "{{role}} {{machine}} {{state}}")],
              "State machines of all roles.", width=16),
        lines("Servers", [("min by (dependency) (barwright_dependency_up)", "{{dependency}}")],
              "1: each role that needs it reaches it."),
        lines("Memory", [('process_resident_memory_bytes{job="barwright"}', "{{service}}")], "Of each process.",
              "bytes"),
        lines("Processor", [('rate(process_cpu_seconds_total{job="barwright"}[$__rate_interval])', "{{service}}")],
              "Cores of each process.", "percentunit"),
    ]),
]  # fmt: skip

OPERATIONS = dashboard("barwright-operations", "Operations", "How Barwright itself does.", ROWS, [], "now-1h")
