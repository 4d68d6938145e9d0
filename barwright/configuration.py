"""The settings as a table for people."""

from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.table import Table

from barwright import environment
from barwright.settings import Settings


def variable(name: str) -> str:
    """The environment variable of a setting; a name that already is one is returned as it is."""
    field = Settings.model_fields.get(name)
    return name if field is None else environment.variable(name, field)


def table(settings: Settings) -> Table:
    """Every setting: variable, default, meaning, and its value where the environment sets it, and its file."""
    title = "Barwright's settings (NAME_FILE: a file that holds the value of NAME)"
    rows = Table("variable", "default", "meaning", "now", title=title, title_justify="left")
    for name, field in Settings.model_fields.items():
        now = _shown(name, getattr(settings, name)) if name in settings.model_fields_set else ""
        if file := environment.file_of(variable(name)):
            now = f"{now} (in {file})"
        rows.add_row(variable(name), _shown(name, field.default), field.description, now)
    return rows


PAGE = """# Settings

Every setting is read from the environment, or from a file: `NAME_FILE=/run/secrets/x` is a file that holds the value
of `NAME`. `barwright config` shows what is set. This page is made by `barwright config --markdown`.

| variable | default | meaning |
|---|---|---|
"""


def markdown() -> str:
    """The page docs/configuration.md."""
    rows = []
    for name, field in Settings.model_fields.items():
        shown = "" if field.default is None else str(field.default)
        default = f"`{shown}`" if shown else ""
        meaning = str(field.description).replace("|", "\\|").replace("<", "\\<")
        rows.append(f"| `{variable(name)}` | {default} | {meaning} |\n")
    return PAGE + "".join(rows)


def _shown(name: str, value: Any) -> str:
    """A value for the eye: without a password, and an empty one visible."""
    if name in ("database_url", "database_read_url") and value:
        return make_conninfo(value, password="***") if "password" in conninfo_to_dict(value) else str(value)
    if name == "redis_url" and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    return "(none)" if value in ("", None) else str(value)
