// The chart itself: candles, volume and overlay of the bars it is given, drawn at most once a frame.
import { CandlestickSeries, createChartEx, CrosshairMode, defaultHorzScaleBehavior, HistogramSeries } from 'lightweight-charts'
import { Overlay } from './overlay.js'
import { moment, offset, tick, width } from './times.js'

const DIGITS = 10 // most decimals on the axis, whose library counts with doubles; the legend has them all
const MANY = 40 // changes in a frame from which all data are set anew

// Days, months and years are marked where they begin by the clock that is shown.
class LocalScale extends defaultHorzScaleBehavior() {
  fillWeightsForPoints(points, start) {
    const shifted = points.map(point => {
      const time = this.key(point.time)
      return { timeWeight: point.timeWeight, time: this.convertHorzItemToInternal(time + offset(time)) }
    })
    super.fillWeightsForPoints(shifted, start)
    shifted.forEach((point, n) => { points[n].timeWeight = point.timeWeight })
  }
}

const probe = document.body.appendChild(document.createElement('i'))
probe.hidden = true
function colour(name) {
  probe.style.color = `var(--${name})`
  return getComputedStyle(probe).color
}
const faded = (colour, alpha) => colour.replace('rgb(', 'rgba(').replace(')', `, ${alpha})`)

export class View {
  #changed = new Map()
  #times = []
  #frame = 0

  constructor(element, bars, missing) {
    this.element = element
    this.bars = bars
    this.interval = '1m'
    this.missing = missing
    this.chart = createChartEx(element, new LocalScale(), {
      autoSize: true,
      crosshair: { mode: CrosshairMode.Normal },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.14, bottom: 0.22 } },
      timeScale: { rightOffset: 6, barSpacing: 7, minBarSpacing: 0.5, timeVisible: true, secondsVisible: false, allowBoldLabels: false, tickMarkFormatter: tick },
      localization: { timeFormatter: time => moment(time, this.interval) },
    })
    this.candles = this.chart.addSeries(CandlestickSeries, { priceLineStyle: 3, priceLineWidth: 1 })
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: 'volume', priceFormat: { type: 'volume' }, lastValueVisible: false, priceLineVisible: false,
    })
    this.chart.priceScale('volume').applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } })
    this.overlay = new Overlay(() => this.colours)
    this.candles.attachPrimitive(this.overlay)
    this.paint()
    addEventListener('theme', () => { this.paint(); this.draw() })
  }

  get scale() { return this.chart.timeScale() }

  paint() {
    const c = this.colours = Object.fromEntries(
      ['ground', 'line', 'dim', 'text', 'faint', 'accent', 'up', 'down', 'imported', 'missing'].map(name => [name, colour(name)]))
    const label = { color: c.dim, labelBackgroundColor: c.dim, width: 1, style: 3 }
    this.chart.applyOptions({
      layout: { background: { color: c.ground }, textColor: c.dim, fontSize: 11, fontFamily: getComputedStyle(document.body).fontFamily },
      grid: { vertLines: { color: faded(c.line, 0.6) }, horzLines: { color: faded(c.line, 0.6) } },
      crosshair: { vertLine: label, horzLine: label },
      timeScale: { borderColor: c.line },
    })
    this.candles.applyOptions({ upColor: c.up, downColor: c.down, wickUpColor: c.up, wickDownColor: c.down, borderVisible: false })
  }

  // Another series of bars, or the same anew.
  draw() {
    this.#changed.clear()
    this.#rebuild()
  }

  newest() { this.scale.scrollToPosition(6, false) }

  oldest() {
    const range = this.scale.getVisibleLogicalRange() // none until bars are drawn
    if (range) this.scale.scrollToPosition(this.scale.scrollPosition() - range.from, false)
  }

  // Put the crosshair on a bar and bring it into sight, or take it away.
  point(bar) {
    if (!bar) return this.chart.clearCrosshairPosition()
    this.chart.setCrosshairPosition(Number(bar.close), bar.time, this.candles)
    const range = this.scale.getVisibleLogicalRange(), at = this.place(bar.time)
    if (!range) return
    const beyond = Math.min(0, at - range.from - 1) + Math.max(0, at - range.to + 1)
    if (beyond) this.scroll(beyond)
  }

  scroll(bars) { this.scale.scrollToPosition(this.scale.scrollPosition() + bars, false) }

  // A bar has changed.
  change(bar, repaired = false) {
    this.#changed.set(bar.time, repaired || this.#changed.get(bar.time))
    this.#frame ||= requestAnimationFrame(() => this.#flush())
  }

  #flush() {
    this.#frame = 0
    const changed = [...this.#changed].sort(([a], [b]) => a - b)
    this.#changed.clear()
    const last = this.#times.at(-1) ?? -Infinity
    if (changed.length > MANY || changed.some(([time]) => time < last && this.place(time) % 1)) this.#rebuild()
    else for (const [time] of changed) this.#update(this.bars.get(time), last)
    if (changed.length <= MANY) for (const [time, repaired] of changed) if (repaired) this.overlay.light(this.place(time))
  }

  #update(bar, last) {
    if (!bar) return
    const old = bar.time < last
    this.candles.update(candle(bar), old)
    this.volume.update(this.#column(bar), old)
    if (!old && bar.time > last) this.#times.push(bar.time)
    if (bar.imported) this.mark()
  }

  #rebuild() {
    const list = this.bars.list
    const items = merged(list, this.missing.empty(list, width(this.interval), this.more))
    this.#times = items.map(item => item.time)
    this.candles.setData(items.map(item => item.open ? candle(item) : { time: item.time }))
    this.volume.setData(list.map(bar => this.#column(bar)))
    const digits = Math.min(DIGITS, Math.max(...list.slice(-50).map(bar => (bar.close.split('.')[1] ?? '').length), 0))
    this.candles.applyOptions({ priceFormat: { type: 'price', precision: digits, minMove: Number(`1e-${digits}`) } })
    this.mark()
  }

  #column(bar) {
    return { time: bar.time, value: Number(bar.volume), color: faded(Number(bar.close) < Number(bar.open) ? this.colours.down : this.colours.up, 0.32) }
  }

  // The clock has changed: everything is placed and written anew.
  refresh() {
    const range = this.scale.getVisibleLogicalRange()
    this.candles.setData([])
    this.volume.setData([])
    this.chart.applyOptions({ timeScale: { tickMarkFormatter: (...args) => tick(...args) } })
    this.draw()
    if (range) this.scale.setVisibleLogicalRange(range)
  }

  // Where a time stands on the scale, in bars; a half where it has no place of its own.
  place(time) {
    let lo = 0, hi = this.#times.length
    while (lo < hi) {
      const middle = (lo + hi) >> 1
      if (this.#times[middle] < time) lo = middle + 1
      else hi = middle
    }
    return this.#times[lo] === time ? lo : lo - 0.5
  }

  // Mark what was imported and what is missing.
  mark() {
    const runs = []
    for (const bar of this.bars.list) {
      if (!bar.imported) continue
      const place = this.place(bar.time), run = runs.at(-1)
      if (run && place === run[1] + 1) run[1] = place
      else runs.push([place, place])
    }
    this.overlay.imported = runs
    this.overlay.spans = this.missing.spans.map(span => ({
      ...span, lo: Math.floor(this.place(span.from)), hi: Math.floor(this.place(span.to - 1)),
    })).filter(span => span.hi >= 0 && this.#times.length)
    this.overlay.redraw?.()
  }
}

const candle = bar => ({ time: bar.time, open: Number(bar.open), high: Number(bar.high), low: Number(bar.low), close: Number(bar.close) })

function merged(list, empty) {
  const known = new Set(list.map(bar => bar.time))
  const rest = empty.filter(time => !known.has(time)).map(time => ({ time }))
  return rest.length ? [...list, ...rest].sort((a, b) => a.time - b.time) : list
}
