"""A dashboard's panels in few words, and the JSON that Grafana takes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

SQL, PROMQL = "sql", "promql"
SOURCES = {
    SQL: {"type": "grafana-postgresql-datasource", "uid": "barwright"},
    PROMQL: {"type": "prometheus", "uid": "prometheus"},
}
WIDTH = 24  # columns of Grafana's grid
Json = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One panel. `queries` are (query, legend) each; `steps` are thresholds: (from, colour), the first from None."""

    title: str
    kind: str
    queries: list[tuple[str, str]]
    help: str
    width: int = 8
    height: int = 7
    language: str = PROMQL
    unit: str = "short"
    shape: str = "time_series"
    steps: list[tuple[float | None, str]] = field(default_factory=list)
    options: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)
    decimals: int | None = None
    mappings: list[Json] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """Panels beside each other, under a heading."""

    title: str
    panels: list[Panel]


def dashboard(uid: str, title: str, help: str, rows: list[Row], variables: list[Json], span: str) -> str:
    """The dashboard as JSON text."""
    panels: list[Json] = []
    top = 0
    for row in rows:
        panels.append(_heading(row.title, len(panels) + 1, top))
        top += 1
        left = lowest = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top = 0, lowest
            panels.append(_panel(panel, len(panels) + 1, left, top))
            left, lowest = left + panel.width, max(lowest, top + panel.height)
        top = lowest
    made = {
        "uid": uid, "title": title, "description": help, "tags": ["barwright"], "schemaVersion": 41, "version": 1,
        "editable": False, "graphTooltip": 1, "timezone": "utc", "refresh": "10s", "time": {"from": span, "to": "now"},
        "timepicker": {}, "annotations": {"list": []}, "links": [], "templating": {"list": variables}, "panels": panels,
    }  # fmt: skip
    return json.dumps(made, indent=1) + "\n"


def query_variable(name: str, label: str, query: str) -> Json:
    """A variable whose values a query gives."""
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCES[SQL], "query": query, "definition": query,
        "refresh": 1, "sort": 0, "multi": False, "includeAll": False, "hide": 0, "options": [], "current": {},
        "regex": "",
    }  # fmt: skip


def list_variable(name: str, label: str, values: list[str], first: str) -> Json:
    """A variable of given values."""
    options = [{"text": value, "value": value, "selected": value == first} for value in values]
    current = {"text": first, "value": first, "selected": True}
    return {
        "name": name, "label": label, "type": "custom", "query": ",".join(values), "multi": False, "includeAll": False,
        "hide": 0, "options": options, "current": current,
    }  # fmt: skip


def _heading(title: str, number: int, top: int) -> Json:
    grid = {"x": 0, "y": top, "w": WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": grid, "panels": []}


def _panel(panel: Panel, number: int, left: int, top: int) -> Json:
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.help,
        "datasource": SOURCES[panel.language], "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height},
        "targets": [_target(panel, query, legend, place) for place, (query, legend) in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": panel.options,
    }  # fmt: skip


def _target(panel: Panel, query: str, legend: str, place: int) -> Json:
    letter = {"refId": chr(ord("A") + place), "datasource": SOURCES[panel.language]}
    if panel.language == SQL:
        return {**letter, "rawSql": query, "rawQuery": True, "editorMode": "code", "format": panel.shape}
    now = panel.kind in ("stat", "table", "bargauge")
    return {
        **letter, "expr": query, "legendFormat": legend, "instant": now, "range": not now,
        "format": "table" if panel.kind == "table" else "time_series",
    }  # fmt: skip


def _defaults(panel: Panel) -> Json:
    steps = [{"value": value, "color": colour} for value, colour in panel.steps or [(None, "green")]]
    made: Json = {
        "unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, "mappings": panel.mappings,
        "custom": panel.custom, "color": {"mode": "thresholds" if panel.steps else "palette-classic"},
    }  # fmt: skip
    return made if panel.decimals is None else {**made, "decimals": panel.decimals}
