// One line of the symbols page.
import { seconds } from './bars.js'
import { ago, date, moment } from './times.js'

const SVG = 'http://www.w3.org/2000/svg'
const REDRAWN = 60 // seconds a sparkline stays as it is
const RUNNING = new Set(['fetching', 'published'])

function made(parent, tag, className = '') {
  const element = parent.appendChild(tag === 'svg' || parent.namespaceURI === SVG ? document.createElementNS(SVG, tag) : document.createElement(tag))
  if (className) element.setAttribute('class', className)
  return element
}

const write = (element, text) => { if (element.textContent !== text) element.textContent = text }

export class Row {
  constructor(name) {
    this.name = name
    this.element = document.createElement('li')
    const link = made(this.element, 'a', 'row')
    link.href = `/?${new URLSearchParams({ symbol: name })}`
    const title = made(link, 'span', 'name')
    made(title, 'b').textContent = name
    this.source = made(title, 'small')
    this.line = made(made(link, 'svg', 'spark'), 'path')
    this.line.parentNode.setAttribute('viewBox', '0 0 100 30')
    this.line.parentNode.setAttribute('preserveAspectRatio', 'none')
    const price = made(link, 'span', 'price'), newest = made(link, 'span', 'newest'), history = made(link, 'span', 'history')
    this.price = made(price, 'b')
    this.change = made(price, 'small')
    this.lag = made(newest, 'b')
    this.at = made(newest, 'small')
    this.bar = made(history, 'svg', 'cover')
    this.bar.setAttribute('viewBox', '0 0 1000 1')
    this.bar.setAttribute('preserveAspectRatio', 'none')
    this.state = made(history, 'small')
  }

  // What the API says of the symbol, its gaps, its tasks and how far its history is.
  know(known, gaps, tasks, progress) {
    this.stopped = known.stopped
    this.newest = Math.max(this.newest ?? 0, known.newest ? seconds(known.newest) : 0)
    write(this.source, [known.source, known.market].filter(Boolean).join(' · '))
    this.#cover(known.history_start && seconds(known.history_start), gaps, tasks)
    write(this.state, standing(known, gaps, tasks, progress))
    this.state.title = progress?.error ?? ''
    this.state.classList.toggle('missing', gaps.length > 0)
    this.age()
  }

  #cover(start, gaps, tasks) {
    this.bar.replaceChildren()
    if (!start) return
    const now = Date.now() / 1000, place = time => 1000 * Math.min(1, Math.max(0, (seconds(time) - start) / (now - start)))
    const part = (name, from, to) => {
      const rect = made(this.bar, 'rect', name)
      const width = Math.max(6, to - from) // what is short must be seen too
      for (const [key, value] of Object.entries({ x: Math.min(from, 1000 - width), width, height: 1 })) rect.setAttribute(key, value)
    }
    part('there', 0, 1000)
    for (const { from, to } of gaps) part('gap', place(from), place(to))
    for (const { from, to, status } of tasks) if (RUNNING.has(status)) part('busy', place(from), place(to))
  }

  wantsSpark() { return !this.drawn || Date.now() / 1000 - this.drawn > REDRAWN }

  // The closes of the last days.
  spark(bars) {
    this.drawn = bars.length > 1 ? Date.now() / 1000 : 0
    if (bars.length < 2) return
    const closes = bars.map(({ close }) => Number(close)), low = Math.min(...closes), span = Math.max(...closes) - low || 1
    const points = closes.map((close, n) => `${(100 * n / (closes.length - 1)).toFixed(2)} ${(28 - 26 * (close - low) / span).toFixed(2)}`)
    this.line.setAttribute('d', `M${points.join('L')}`)
    this.day = bars.findLast(({ time }) => time <= Date.now() / 1000 - 86_400) ?? bars[0]
    this.tell(bars.at(-1), false)
  }

  // A bar: its close is the price.
  tell(bar, minute = true) {
    if (minute) this.newest = Math.max(this.newest ?? 0, bar.time)
    if (minute || !this.told) write(this.price, bar.close)
    this.told ||= minute
    const share = this.day ? (Number(this.price.textContent) / Number(this.day.close) - 1) * 100 : null
    if (share !== null) write(this.change, `${share < 0 ? '−' : '+'}${Math.abs(share).toFixed(2)} %`)
    this.element.dataset.way = share < 0 ? 'down' : 'up'
    this.age()
  }

  age() {
    const behind = Date.now() / 1000 - (this.newest + 60)
    const text = !this.newest ? 'none yet' : this.stopped ? 'stopped' : behind < 60 ? 'now' : `${ago(behind)} behind`
    write(this.lag, text)
    this.lag.classList.toggle('missing', text.endsWith('behind'))
    write(this.at, this.newest ? moment(this.newest).replace(/^\w+ /, '') : '')
  }
}

function standing(known, gaps, tasks, progress) {
  if (!known.history_start) return 'live only'
  const since = `since ${date(seconds(known.history_start))}`, share = progress?.share
  if (!gaps.length) return `complete ${since}`
  const percent = share == null ? [] : [`${Math.floor(share * 1000) / 10} %`]
  const error = progress?.error ? [progress.error] : []
  return [...percent, tasks.length ? `${tasks.length} to fetch` : `${gaps.length} missing`, since, ...error].join(' · ')
}
