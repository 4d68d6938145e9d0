"""`barwright simulator`: run the exchange, print its truth, make it fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from barwright import markets
from barwright.errors import BarwrightError
from barwright.simulator.digits import plain, stamp
from barwright.simulator.faults import KINDS
from barwright.simulator.times import minute_of

if TYPE_CHECKING:
    from barwright.settings import Settings
    from barwright.simulator.exchange import Exchange
    from barwright.simulator.market import Market

INTERVALS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1mo")


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Run a simulated exchange at SIMULATOR_URL, or ask it, or make it fail."""
    if context.invoked_subcommand:
        return
    from barwright import log
    from barwright.simulator import server

    settings: Settings = context.obj()
    log.configure(settings, "simulator")
    server.run(settings)


def _of_a_market(function: Callable[..., None]) -> Callable[..., None]:
    """The options of commands that print what a market did."""
    for option in (
        click.option("--seed", type=int, help="Seed of the exchange; else the running one's, else the setting."),
        click.option("--end", required=True, help="… and before this one."),
        click.option("--start", required=True, help="From this time on: RFC 3339 or a date, UTC."),
        click.option("--market", help="The market, as Coinbase~BTC~USD."),
        click.option("--symbol", help="The symbol, whose market is made from it."),
    ):
        function = option(function)
    return function


@command.command()
@_of_a_market
@click.option("--interval", type=click.Choice(INTERVALS), default="1m", show_default=True)
@click.pass_obj
def bars(settings: Callable[[], Settings], /, interval: str, start: str, end: str, **chosen: Any) -> None:
    """Print the true bars whose buckets begin in a span, as CSV. What is yet to come is known too."""
    from barwright.simulator.bars import bars as computed

    market, first, last = _market(settings(), **chosen), minute_of(start), minute_of(end)
    price, size = market.price_places, market.size_places
    click.echo("bucket,open,high,low,close,volume,quote_volume,trades,buy_volume")
    for piece in computed(market, first, last, interval):
        rows = zip(*(column.tolist() for column in piece), strict=True)
        lines = [
            f"{stamp(bucket * 60)},{','.join([plain(units, price) for units in prices])},{plain(volume, size)},"
            f"{plain(quote, price + size)},{trades},{plain(buy, size)}"
            for bucket, *prices, volume, quote, trades, buy in rows
        ]
        _print(lines)


@command.command()
@_of_a_market
@click.pass_obj
def trades(settings: Callable[[], Settings], /, start: str, end: str, **chosen: Any) -> None:
    """Print the true trades of a span, as CSV."""
    from barwright.simulator.trades import trades as computed

    market = _market(settings(), **chosen)
    price, size = market.price_places, market.size_places
    click.echo("ts,ccseq,price,size,side,revision")
    batch: list[str] = []
    for one in computed(market, minute_of(start), minute_of(end)):
        side = "buy" if one.bought else "sell"
        when = stamp(one.second, one.fraction)
        batch.append(f"{when},{one.number},{plain(one.price, price)},{plain(one.size, size)},{side},{one.revision}")
        if len(batch) == 10_000:
            _print(batch)
            batch = []
    _print(batch)


@command.command()
@click.argument("kind", type=click.Choice([*KINDS, "list", "clear"]))
@click.option("--seconds", type=float, help="How long.  [default: 10]")
@click.option("--share", type=float, help="Of messages, answers, sockets or minutes.  [default: 1]")
@click.option("--market", help="Only this market.")
@click.option("--symbol", help="Only this symbol's market.")
@click.option("--seed", type=int, help="Of what is random.  [default: 1]")
@click.option("--status", type=int, help="error: the HTTP status.  [default: 500]")
@click.option("--delay", type=float, help="slow, delay, reorder, repeat: most seconds.  [default: 2, 60, 0.5, 1]")
@click.option("--announce", is_flag=True, default=None, help="cut: say FORCE_DISCONNECT before.")
@click.option("--start", help="revise: from this time on …")
@click.option("--end", help="… and before this one.")
@click.pass_obj
def fault(settings: Callable[[], Settings], /, kind: str, **options: Any) -> None:
    """Make the running exchange fail; `list` shows what is on, `clear` ends it."""
    method = {"list": "GET", "clear": "DELETE"}.get(kind, "POST")
    wanted = {name: value for name, value in options.items() if value is not None}
    body = {"kind": kind, **wanted} if method == "POST" else None
    answer = _ask(settings().simulator_url, method, "/admin/faults", body)
    if answer is None:
        raise BarwrightError(f"No simulated exchange answers at {settings().simulator_url}.", "`make run` starts one.")
    for line in answer if isinstance(answer, list) else [answer]:
        click.echo(json.dumps(line))


def _market(settings: Settings, symbol: str | None, market: str | None, seed: int | None) -> Market:
    if not (symbol or market):
        raise BarwrightError("Which market?", "Name a --symbol or a --market.")
    return _exchange(settings, seed).market(market or markets.market_of(symbol or ""))


def _exchange(settings: Settings, seed: int | None) -> Exchange:
    """The exchange that runs, unless another seed is asked for; where none runs, that of the settings."""
    from barwright.simulator.exchange import Exchange

    told = _ask(settings.simulator_url, "GET", "/admin/exchange")
    if told and seed in (None, told["seed"]):
        return Exchange.from_dict(told)
    return Exchange.from_settings(settings if seed is None else settings.model_copy(update={"simulator_seed": seed}))


def _ask(url: str, method: str, path: str, body: Any = None) -> Any:
    """The answer of the running exchange, None where there is none. BarwrightError for what it refuses."""
    import httpx

    try:
        answer = httpx.request(method, f"{url.rstrip('/')}{path}", json=body, timeout=5, trust_env=False)
    except httpx.TransportError:
        return None
    if answer.status_code == 400:
        raise BarwrightError(answer.json()["error"])
    return answer.json() if answer.is_success else None


def _print(lines: list[str]) -> None:
    if lines:
        click.echo("\n".join(lines))
