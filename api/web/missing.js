// What is missing of a symbol and what fetches it, asked for every few seconds.
import { ask } from './http.js'
import { seconds } from './bars.js'

const RUNNING = { fetching: 'fetching', published: 'landing' }
const MOST = 400 // empty places one gap gets on the time scale
const SOON = 2000, LATER = 8000 // ms

export class Missing {
  spans = [] // { from, to, label, busy }, seconds
  holes = [] // the gaps alone
  progress = null
  #timer

  constructor(onChange) { this.onChange = onChange }

  // Follow a symbol. `onChange` hears spans that are no longer missing.
  follow(symbol) {
    clearTimeout(this.#timer)
    this.symbol = symbol
    this.spans = this.holes = []
    this.progress = null
    return this.#look(symbol)
  }

  async #look(symbol) {
    let found
    try {
      found = document.hidden ? null : await Promise.all([
        ask('/v1/gaps', { symbol, limit: 200 }), ask('/v1/backfills', { symbol, limit: 200 }),
      ])
    } catch { /* offline or unknown: the page says so itself */ }
    if (symbol !== this.symbol) return
    if (found) this.#take(...found)
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#look(symbol), this.spans.length ? SOON : LATER)
  }

  #take({ gaps }, { backfills, progress }) {
    const span = (part, label, busy) => ({ from: seconds(part.from), to: seconds(part.to), label, busy })
    this.holes = gaps.map(gap => span(gap, 'missing', false))
    const running = backfills.filter(task => RUNNING[task.status]).map(task => span(task, RUNNING[task.status], true))
    const spans = [...running.reduce(without, this.holes), ...running]
    const old = this.spans, changed = JSON.stringify(spans) !== JSON.stringify(old)
    this.spans = spans
    this.gaps = gaps.length
    this.tasks = backfills.length
    this.progress = progress[0] ?? null
    this.onChange(changed ? old.filter(({ from, to }) => !spans.some(now => now.from === from && now.to === to)) : null)
  }

  // The starts of buckets that nothing is known of; those before the first bar only where that is the first there is.
  empty(list, width, more) {
    const first = list[0]?.time, found = []
    if (first === undefined || width > 604800) return found
    for (const { from, to } of this.holes) {
      const start = Math.max(more ? first : -Infinity, first + Math.floor((from - first) / width) * width)
      const step = width * Math.ceil((to - start) / width / MOST)
      for (let time = start; time < to; time += step) found.push(time)
    }
    return found
  }
}

const without = (spans, { from, to }) => spans.flatMap(span => [
  { ...span, to: Math.min(span.to, from) }, { ...span, from: Math.max(span.from, to) },
].filter(part => part.from < part.to))
