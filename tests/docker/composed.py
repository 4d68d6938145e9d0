"""docker/compose.yml and docker/Dockerfile as an engine would understand them."""

import os
import re
import shlex
from typing import Any

import yaml

from tests.services import ROOT

FOLDER = ROOT / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()


def _interpolated(text: str) -> str:
    """`${NAME:-default}` by the default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


COMPOSE: dict[str, Any] = yaml.safe_load(_interpolated((FOLDER / "compose.yml").read_text()))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ONCE = {name for name, service in SERVICES.items() if service.get("restart") == "no"}


def instruction(name: str) -> str:
    """What the last stage of the Dockerfile says, continued lines joined."""
    stage = DOCKERFILE.rpartition("\nFROM ")[2].replace("\\\n", " ")
    found = re.findall(rf"^{name} (.*)$", stage, re.MULTILINE)
    return found[-1].strip() if found else ""


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    return dict(word.split("=", 1) for word in shlex.split(instruction("ENV")))


def environment(name: str) -> dict[str, str]:
    """The variables of a container, but for PATH."""
    given = {**image_environment(), **SERVICES[name].get("environment", {})} if name in OURS else {}
    given = given or SERVICES[name].get("environment", {})
    return {variable: str(value) for variable, value in given.items() if variable != "PATH"}


def files(name: str) -> dict[str, str]:
    """The variables of a container that name a file with a secret, and the secret."""
    return {
        variable: os.path.basename(value)
        for variable, value in environment(name).items()
        if value.startswith("/run/secrets/")
    }
