// The bars that were loaded, ascending. Numbers stay the text the server sent: a double would lose digits.
const NUMBERS = ['open', 'high', 'low', 'close', 'volume', 'quote_volume', 'vwap', 'trades', 'buy_volume']
export const seconds = time => typeof time === 'number' ? time : Date.parse(time) / 1000

export function bar(sent) {
  const made = { time: seconds(sent.bucket), imported: sent.imported, closed: sent.closed }
  for (const name of NUMBERS) made[name] = sent[name] == null ? null : String(sent[name])
  return made
}

export class Bars {
  list = []

  // The place of the first bar at or after a time.
  at(time) {
    let lo = 0, hi = this.list.length
    while (lo < hi) {
      const middle = (lo + hi) >> 1
      if (this.list[middle].time < time) lo = middle + 1
      else hi = middle
    }
    return lo
  }

  get(time) {
    const found = this.list[this.at(time)]
    return found?.time === time ? found : undefined
  }

  // Keep a bar; undefined where nothing changed, else whether it is a bucket that was not there.
  put(bar) {
    const at = this.at(bar.time), old = this.list[at]
    if (old?.time !== bar.time) {
      this.list.splice(at, 0, bar)
      return true
    }
    this.list[at] = bar
    return NUMBERS.some(name => bar[name] !== old[name]) || bar.imported !== old.imported ? false : undefined
  }

  // Many bars of one piece, ascending, instead of those between the first and the last.
  replace(bars, lo = bars[0].time, hi = bars.at(-1).time + 1) {
    this.list = [...this.list.slice(0, this.at(lo)), ...bars, ...this.list.slice(this.at(hi))]
  }
}
