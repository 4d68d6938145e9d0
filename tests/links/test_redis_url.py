"""What a Redis URL may look like, and what is said of one that is wrong."""

from pathlib import Path
from typing import Any

import pytest

from barwright.errors import BarwrightError
from barwright.links.redis import Address, address, async_client
from barwright.settings import Settings


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://127.0.0.1:6379/0", ("redis", False, (("127.0.0.1", 6379),), None, None, "", 0)),
        ("redis://host", ("redis", False, (("host", 6379),), None, None, "", 0)),
        ("rediss://u:p%40@h:1/3", ("redis", True, (("h", 1),), "u", "p@", "", 3)),
        ("redis://:p:q@[::1]:6380", ("redis", False, (("::1", 6380),), None, "p:q", "", 0)),
        (
            "redis+sentinel://h1,h2:26380/master/2",
            ("redis+sentinel", False, (("h1", 26379), ("h2", 26380)), None, None, "master", 2),
        ),
        ("redis+sentinel://h/main", ("redis+sentinel", False, (("h", 26379),), None, None, "main", 0)),
        ("rediss+cluster://u:p@h:1,i:2", ("redis+cluster", True, (("h", 1), ("i", 2)), "u", "p", "", 0)),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart(url: str, found: tuple[Any, ...]) -> None:
    assert address(url) == Address(*found, {})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is no way to reach Redis"),
        ("localhost:6379", "is no way to reach Redis"),
        ("http://h", "'http' is no way to reach Redis"),
        ("redis://", "it names no host"),
        ("redis://h:port", "'h:port' is no host:port"),
        ("redis://h:70000", "is no host:port"),
        ("redis://h:1,i:2", "it names several servers"),
        ("redis://h/x", "'x' is no number of a database"),
        ("redis+cluster://h/1", "a cluster has no database 1"),
        ("redis+sentinel://h", "it does not name the master"),
        ("redis://h?ssl=1", "'ssl' is no option of it"),
    ],
)
def test_a_wrong_url_is_told(url: str, said: str) -> None:
    with pytest.raises(BarwrightError, match=said.replace("?", r"\?")):
        address(url)


@pytest.mark.parametrize("rest", ["user:geheim@h:port", ":geheim/x@h:1", "user:geheim?x@h", ":geheim#/?@h/0"])
@pytest.mark.parametrize("scheme", ["redis", "rediss+sentinel", "redis+cluster"])
def test_a_password_is_never_shown(scheme: str, rest: str) -> None:
    with pytest.raises(BarwrightError) as error:
        address(f"{scheme}://{rest}")
    assert "geheim" not in f"{error.value} {error.value.message} {error.value.hint}"


def test_files_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(BarwrightError, match="REDIS_SSL_CA=/nowhere cannot be read"):
        async_client(Settings(redis_url="rediss://h", redis_ssl_ca="/nowhere"), 1)
    with pytest.raises(BarwrightError, match="makes no use of it"):
        async_client(Settings(redis_url="redis://h", redis_ssl_ca=__file__), 1)
