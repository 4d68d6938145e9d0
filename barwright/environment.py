"""Where settings come from: the variable NAME, or the file that NAME_FILE names, as secrets of containers are given."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from barwright.errors import BarwrightError


class Environment(EnvSettingsSource):
    """The environment, with the content of each NAME_FILE as NAME. Both at once, or a file that cannot be read, is a
    BarwrightError that names them."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        names = [variable(name, field) for name, field in settings_cls.model_fields.items()]
        contents = {name.lower(): _content(name, path) for name in names if (path := file_of(name))}
        self.env_vars = {**self.env_vars, **contents}


def variable(name: str, field: FieldInfo) -> str:
    """The variable of a setting."""
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"BARWRIGHT_{name.upper()}"


def file_of(name: str) -> str:
    """The file that holds a variable's value; empty: none."""
    return os.environ.get(f"{name}_FILE", "")


def with_values(values: Mapping[str, str]) -> dict[str, str]:
    """This process' environment with these values, for a child: a file that held one of them holds it no more."""
    replaced = {f"{name}_FILE" for name in values}
    return {name: value for name, value in os.environ.items() if name not in replaced} | dict(values)


def _content(name: str, path: str) -> str:
    if os.environ.get(name):
        raise BarwrightError(f"{name} and {name}_FILE are both set.", "Unset one of them.")
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise BarwrightError(
            f"{name}_FILE={path}: {reason}.", f"It names the file that holds the value of {name}."
        ) from error
