"""Makes the dashboards' JSON of their sources beside this file: `make docs`."""

from pathlib import Path

from market import MARKET
from operations import OPERATIONS

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = {"market.json": MARKET, "operations.json": OPERATIONS}

if __name__ == "__main__":
    for name, text in DASHBOARDS.items():
        (FOLDER / name).write_text(text)
