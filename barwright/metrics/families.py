"""Metrics that are not counted but looked up when somebody asks: their names, labels and meanings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, Protocol

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

Labels = tuple[str, ...]


class Family(NamedTuple):
    """A metric of some labels; `name` is without `barwright_`, and a counter's without `_total`."""

    name: str
    help: str
    labels: Labels = ()
    kind: Literal["gauge", "counter"] = "gauge"

    def of(self, values: Mapping[Labels, float]) -> Metric:
        """The metric with a value for each combination of its labels' values."""
        kind = GaugeMetricFamily if self.kind == "gauge" else CounterMetricFamily
        metric = kind(f"barwright_{self.name}", self.help, labels=self.labels)
        for labels, value in values.items():
            metric.add_metric(labels, value)
        return metric


class Collector(Protocol):
    """What gives metrics when it is asked."""

    def collect(self) -> Iterable[Metric]:
        """The metrics of this moment."""


class Page:
    """Several collectors as one, as prometheus-client's encoders take them."""

    def __init__(self, *parts: Collector) -> None:
        self.parts = parts

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        for part in self.parts:
            yield from part.collect()


class Fixed:
    """Metrics that were looked up already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        return self.metrics
