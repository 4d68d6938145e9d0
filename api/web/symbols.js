// The page that lists symbols, their last price, how far behind and how complete they are, and adds one.
import { bar, seconds } from './bars.js'
import { Feed } from './feed.js'
import { ask, symbolPath } from './http.js'
import { Row } from './row.js'

const SOON = 1500, LATER = 6000 // ms between two looks, while history is on its way and otherwise
const LIVE = 90 // symbols whose price follows the stream; the socket takes 100
const CHUNK = 20 // symbols asked for at once
const SPARK = { interval: '1h', limit: 72, numbers: 'string', time: 's' }
const $ = id => document.getElementById(id)
const rows = new Map()
let timer

const feed = new Feed(state => {
  document.body.dataset.feed = state
  $('connection').lastChild.textContent = { open: 'live', connecting: 'connecting', closed: 'offline, trying again' }[state]
})

async function look() {
  clearTimeout(timer)
  let busy = false
  try {
    if (!document.hidden) busy = await read()
    note(rows.size ? '' : 'No symbols yet. Add the first one above.')
  } catch (error) {
    note(error.status ? error.message : 'The server cannot be reached. Trying again.')
  }
  timer = setTimeout(look, busy ? SOON : LATER)
}

async function read() {
  const [{ symbols }, { gaps }, { backfills, progress }] = await Promise.all([
    ask('/v1/symbols'), ask('/v1/gaps', { limit: 1000 }), ask('/v1/backfills', { limit: 1000 }),
  ])
  const fresh = symbols.filter(({ symbol }) => !rows.has(symbol))
  for (const known of fresh) rows.set(known.symbol, new Row(known.symbol))
  for (const name of rows.keys()) if (!symbols.some(({ symbol }) => symbol === name)) forget(name)
  const of = (list, name) => list.filter(({ symbol }) => symbol === name)
  for (const known of symbols) {
    rows.get(known.symbol).know(known, of(gaps, known.symbol), of(backfills, known.symbol), of(progress, known.symbol)[0])
  }
  const sorted = [...rows.values()].sort((a, b) => a.name.localeCompare(b.name)).map(row => row.element)
  if (sorted.some((element, n) => $('rows').children[n] !== element)) $('rows').replaceChildren(...sorted)
  fresh.forEach(follow)
  await spark([...rows.values()].filter(row => row.wantsSpark()))
  return gaps.length > 0
}

function forget(name) {
  rows.get(name).leave?.()
  rows.delete(name)
}

function follow({ symbol }) {
  const row = rows.get(symbol)
  if (rows.size > LIVE) return
  row.leave = feed.subscribe({ symbol, interval: '1m', rate: 2, numbers: 'string', time: 's' }, message => {
    if (message.type === 'bars') message.bars.forEach(sent => row.tell(bar(sent)))
    else if (message.bar) row.tell(bar(message.bar))
  })
}

async function spark(wanted) {
  for (let at = 0; at < wanted.length; at += CHUNK) {
    const part = wanted.slice(at, at + CHUNK)
    const found = await ask('/v1/bars', { symbol: part.map(row => row.name).join(), ...SPARK })
    for (const { symbol, bars } of found.series ?? [found]) rows.get(symbol)?.spark(bars.map(bar))
  }
}

function note(text) {
  $('note').textContent = text
  $('note').hidden = !text
}

$('add').onsubmit = async event => {
  event.preventDefault()
  const form = event.target, output = form.querySelector('output')
  const { symbol, ...body } = Object.fromEntries([...new FormData(form)].map(([name, text]) => [name, text.trim()]).filter(([, text]) => text))
  output.className = output.textContent = ''
  form.inert = true
  try {
    await ask(symbolPath(symbol), {}, { method: 'PUT', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
    output.textContent = `${symbol} is followed; its history is on its way.`
    form.symbol.value = form.market.value = ''
    await look()
    rows.get(symbol)?.element.scrollIntoView({ block: 'nearest' })
  } catch (error) {
    output.className = 'wrong'
    output.textContent = error.status ? `${error.message} ${error.hint ?? ''}` : 'The server cannot be reached.'
  } finally {
    form.inert = false
    form.symbol.focus()
  }
}

$('add').start.max = new Date().toISOString().slice(0, 10)
$('add').start.valueAsNumber = Date.now() - 30 * 86_400_000
setInterval(() => rows.forEach(row => row.age()), 1000)
addEventListener('visibilitychange', () => document.hidden || look())
look()
