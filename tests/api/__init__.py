"""Tests of the API."""

import pytest

pytest.register_assert_rewrite("tests.api.truth")
