"""The markets of our own exchange that are followed from the start."""

from datetime import UTC, datetime, timedelta

from barwright import sources, sql
from barwright.errors import BarwrightError
from barwright.settings import Settings

NAME = "simulator"
# How far the history of its markets goes back at first.
HISTORY = timedelta(days=2)


def register(settings: Settings) -> list[str]:
    """Have the markets of the settings followed, those whose symbols nobody has registered; one that was stopped stays
    stopped. Returned are the symbols that were registered."""
    symbols = [name for symbol in settings.simulator_symbols.split(",") if (name := symbol.strip())]
    given = {"source": NAME, "start": datetime.now(UTC) - HISTORY, "grace": sources.grace_of(NAME)}
    made = []
    with sql.connect(settings.database_url, "run") as connection:
        for symbol, market in _markets(symbols):
            base, quote = sources.pair_of(NAME, market)
            names = {"symbol": symbol, "market": market, "base": base, "quote": quote}
            if connection.execute(sql.queries("run")["register_unknown"], {**names, **given}).fetchone():
                made.append(symbol)
    return made


def _markets(symbols: list[str]) -> list[tuple[str, str]]:
    try:
        return [(symbol, sources.market_of(NAME, symbol) or "") for symbol in symbols]
    except BarwrightError as error:
        raise BarwrightError(f"BARWRIGHT_SIMULATOR_SYMBOLS: {error.message}", error.hint) from error
