// The chart page: what the user chose, its bars by HTTP and stream, and what is said about them.
import { Bars, bar, seconds } from './bars.js'
import { Feed } from './feed.js'
import { ask } from './http.js'
import { keys } from './keys.js'
import { legend } from './legend.js'
import { Missing } from './missing.js'
import { open as search, palette } from './palette.js'
import { clock, date, hasZone, isInterval, local, width, zone, zoneOf } from './times.js'
import { View } from './view.js'

const LEVELS = ['1m', '5m', '15m', '30m', '1h', '4h', '1d', '1w', '1mo']
const FIRST = 1000, PAGE = 2000 // bars asked for at once
const NEAR = 100 // bars to the left end at which more is asked for
const FOLLOWED = 5000 // bars that the stream tells repairs of; older ones are asked for again when a gap is filled
const STYLE = { numbers: 'string', time: 's' }
const $ = id => document.getElementById(id)

const bars = new Bars()
const missing = new Missing(healed)
const view = new View($('chart'), bars, missing)
let symbols = [], shown = { symbol: null, interval: '1m' }
let turn = 0, loading = false, followed = Infinity, cursor = null
let leave = () => {}, widen

const feed = new Feed(state => {
  document.body.dataset.feed = state
  $('connection').lastChild.textContent = { open: 'live', connecting: 'connecting', closed: 'offline, trying again' }[state]
})

// What to show, from the address, or what was shown last, or the first symbol there is.
function asked() {
  const query = new URLSearchParams(location.search), interval = query.get('interval')
  return { symbol: query.get('symbol') ?? localStorage.symbol ?? null, interval: isInterval(interval) ? interval : localStorage.interval ?? '1m' }
}

function go(change) {
  const { symbol, interval } = { ...shown, ...change }
  history.pushState(null, '', `?${new URLSearchParams({ symbol, interval })}`)
  show({ symbol, interval })
}

const query = extra => ({ symbol: shown.symbol, interval: shown.interval, tz: zoneOf(shown.interval), ...STYLE, ...extra })

async function show(wanted) {
  const mine = ++turn
  leave()
  shown = wanted
  Object.assign(view, { interval: shown.interval, more: false })
  bars.list = []
  cursor = null
  followed = Infinity
  view.draw()
  legend()
  names()
  say()
  $('progress').hidden = false
  try {
    const found = (await ask('/v1/bars', query({ limit: FIRST }))).bars.map(bar)
    if (mine !== turn) return
    bars.list = found
    view.more = found.length === FIRST
    Object.assign(localStorage, shown)
    if (missing.symbol !== shown.symbol) missing.follow(shown.symbol)
    view.draw()
    view.newest()
    follow()
    tell()
  } catch (error) {
    if (mine === turn) failed(error, wanted, mine)
  } finally {
    if (mine === turn) $('progress').hidden = true
  }
}

function failed(error, wanted, mine) {
  if (error.status === 404) return say(`There is no symbol ${wanted.symbol}.`, '/symbols', 'Add it')
  say(error.status ? `${error.message} ${error.hint ?? ''}` : 'The server cannot be reached. Trying again.')
  if (!error.status || error.status >= 500 || error.status === 429) setTimeout(() => mine === turn && show(wanted), 3000)
}

// Follow the stream from the oldest bar that is loaded, within reason.
function follow() {
  leave()
  followed = bars.list.at(-FOLLOWED)?.time ?? bars.list[0]?.time
  const mine = turn
  leave = feed.subscribe(query({ start: followed }), message => mine === turn && hear(message))
}

function hear(message) {
  if (message.type === 'bars') message.bars.map(bar).forEach(made => take(made))
  else if (message.type === 'bar') take(bar(message.bar))
  else if (message.type === 'revision') take(bar(message.bar), true)
  else if (message.type === 'removed') remove(seconds(message.bucket), seconds(message.end))
  else if (message.type === 'reset') remove(followed ?? -Infinity, Infinity)
  else if (message.type === 'error') say(`${message.message} ${message.hint ?? ''}`)
}

function take(made, repaired) {
  if (bars.put(made) === undefined) return
  view.change(made, repaired)
  if (bars.list.length === 1) say()
  if (cursor === null || cursor === made.time) tell()
}

function remove(lo, hi) {
  bars.list = bars.list.filter(({ time }) => time < lo || time >= hi)
  view.draw()
}

// More history when the left end comes near.
async function older(range = view.scale.getVisibleLogicalRange()) {
  if (!range || range.from >= NEAR || !view.more || loading || !bars.list.length) return
  const mine = turn, end = bars.list[0].time
  loading = true
  $('progress').hidden = false
  try {
    const found = (await ask('/v1/bars', query({ end, limit: PAGE }))).bars.map(bar)
    if (mine !== turn) return
    view.more = found.length === PAGE
    if (found.length) bars.replace(found)
    view.draw()
    clearTimeout(widen)
    if (bars.list.length <= FOLLOWED + PAGE) widen = setTimeout(() => mine === turn && follow(), 2000)
  } catch { /* the next scroll tries again */ } finally {
    loading = false
    $('progress').hidden = true
  }
}

// Parts of the history have come: where the stream does not tell of them, they are asked for.
async function healed(spans) {
  covered()
  if (!spans) return
  if (!bars.list.length && spans.length) return show(shown)
  const mine = turn, oldest = bars.list[0]?.time
  view.more ||= spans.some(({ from }) => from < oldest)
  for (const { from, to } of spans.filter(({ from, to }) => from < followed && to > oldest)) {
    const lo = Math.max(from - width(shown.interval), oldest), hi = Math.min(to, followed)
    const found = await ask('/v1/bars', query({ start: Math.floor(lo), end: Math.ceil(hi), limit: 10_000 })).catch(() => null)
    if (mine !== turn || !found) return
    if (found.bars.length) bars.replace(found.bars.map(bar))
  }
  view.draw()
  older()
}

function names() {
  document.title = `${shown.symbol} ${shown.interval} · Barwright`
  $('symbol').firstChild.textContent = shown.symbol
  const all = LEVELS.includes(shown.interval) ? LEVELS : [...LEVELS, shown.interval].sort((a, b) => width(a) - width(b))
  $('intervals').replaceChildren(...all.map(name => {
    const button = document.createElement('button')
    button.textContent = name
    button.role = 'radio'
    button.ariaChecked = String(name === shown.interval)
    button.onclick = () => go({ interval: name })
    return button
  }))
  $('intervals').querySelector('[aria-checked=true]').scrollIntoView({ block: 'nearest', inline: 'center' })
  covered()
}

// The place of the bar under the crosshair, null where there is none.
const pointed = () => cursor !== null && bars.get(cursor) ? bars.at(cursor) : null

function tell() {
  const place = pointed() ?? bars.list.length - 1
  legend(bars.list[place], bars.list[place - 1], shown.interval)
  if (!bars.list.length && shown.symbol) say('No bars yet.')
}

function say(text = '', link = '', title = '') {
  $('message').hidden = !text
  $('message').textContent = text
  if (!link) return
  const made = document.createElement('a')
  Object.assign(made, { href: link, textContent: title })
  $('message').append(' ', made)
}

// One line about the history.
function covered() {
  const { progress, gaps, tasks } = missing.symbol === shown.symbol ? missing : {}, since = symbols.find(known => known.symbol === shown.symbol)?.history_start
  const share = progress?.share
  let text = ''
  if (gaps && share < 1) text = `${Math.floor(share * 1000) / 10} % of the history · ${gaps} ${gaps === 1 ? 'gap' : 'gaps'}`
  else if (gaps) text = `${gaps} ${gaps === 1 ? 'gap' : 'gaps'}`
  else if (share != null && since) text = `complete since ${date(seconds(since))}`
  $('coverage').textContent = text + (tasks ? ` · ${tasks} ${tasks === 1 ? 'backfill' : 'backfills'}` : '')
  $('coverage').className = gaps ? 'missing' : ''
}

function tick() {
  $('clock').textContent = `${clock(Date.now() / 1000)} ${local.on ? 'local' : 'UTC'}`
}

function toggleZone() {
  if (!hasZone) return
  const before = zoneOf(shown.interval)
  local.on = !local.on
  localStorage.zone = local.on ? 'local' : 'utc'
  tick()
  if (zoneOf(shown.interval) === before) view.refresh()
  else show(shown)
  tell()
}

view.chart.subscribeCrosshairMove(({ time }) => {
  cursor = time ?? null
  tell()
})
view.scale.subscribeVisibleLogicalRangeChange(range => {
  older(range)
  $('newest').hidden = !range || range.to > bars.list.length - 1
})
$('newest').onclick = () => view.newest()
$('symbol').onclick = () => search()
$('clock').onclick = toggleZone
$('clock').disabled = !hasZone
$('clock').title = hasZone ? `UTC or ${zone} ( U )` : 'This browser is in UTC'
keys({
  view, bars, search, toggleZone, cursor: pointed,
  point: bar => {
    cursor = bar?.time ?? null
    view.point(bar)
    tell()
  },
})
addEventListener('popstate', () => show(asked()))
setInterval(tick, 1000)
tick()

palette([], go) // an interval may be chosen before the symbols are here
const wanted = asked()
if (wanted.symbol) show(wanted)
try {
  symbols = (await ask('/v1/symbols')).symbols
  palette(symbols, go)
  if (!shown.symbol && symbols.length) show({ ...wanted, symbol: symbols[0].symbol })
  else if (!shown.symbol) say('No symbols yet.', '/symbols', 'Add one')
  covered()
} catch { say('The server cannot be reached.') }
