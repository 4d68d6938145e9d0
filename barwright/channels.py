"""Redis channels that roles share. What is said there is a hint: nobody waits for it, nothing is lost without it."""

from typing import Final

# A message is {"BTCUSD": 1795478400000, …}: symbols with new ticks and their newest minute, milliseconds since 1970.
TICKS: Final = "barwright:ticks"
