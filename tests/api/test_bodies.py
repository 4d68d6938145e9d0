"""Bodies that are no JSON are told so, whatever they are made of."""

import pytest

from tests.api.conftest import Api


@pytest.mark.parametrize(
    "body", [b'{"source":"\xff"}', b"[" * 60_000, b'{"source":' + b"9" * 50_000 + b"}", b"\xef\xbb\xbf{}"],
    ids=["invalid UTF-8", "nested 60,000 deep", "a number of 50,000 digits", "a byte order mark"],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_400(body: bytes, api: Api) -> None:
    # `make fuzz` with seed 1: invalid UTF-8 was answered with 500.
    answer = api.client.put("/v1/symbols/FUZZED", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
