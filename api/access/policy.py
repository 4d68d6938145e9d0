"""Whether keys are needed, by where the API listens."""

from ipaddress import ip_address

from barwright.errors import BarwrightError
from barwright.settings import Settings


def required(settings: Settings) -> bool:
    """Whether keys are on; BarwrightError where they are off and others than this machine could ask."""
    if settings.keys != "off":
        return settings.keys == "on" or not loopback(settings.host)
    if not loopback(settings.host):
        raise BarwrightError(
            f"BARWRIGHT_KEYS=off, but BARWRIGHT_HOST={settings.host} can be reached by others.",
            "Leave BARWRIGHT_KEYS at auto and make keys with `barwright key create`, or listen on 127.0.0.1.",
        )
    return False


def loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
