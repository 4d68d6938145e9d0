// Every digit of the bar under the crosshair, else of the newest.
import { moment } from './times.js'

const element = document.getElementById('legend')
const PARTS = [
  ['open', 'O'], ['high', 'H'], ['low', 'L'], ['close', 'C'], ['change', ''], ['volume', 'Vol'], ['vwap', 'VWAP'],
  ['trades', 'Trades'], ['buy_volume', 'Bought'], ['quote_volume', 'Quote'],
]
const head = element.appendChild(document.createElement('p'))
const [time, imported, open] = ['', 'imported', 'open'].map(text => {
  const part = head.appendChild(document.createElement('span'))
  Object.assign(part, { className: text, textContent: text })
  return part
})
const rows = Object.fromEntries(PARTS.map(([name, title]) => {
  const part = element.appendChild(document.createElement('span')), label = document.createElement('i')
  const value = document.createElement('b')
  part.className = name
  label.textContent = title
  part.append(label, value)
  return [name, { part, value }]
}))

export function legend(bar, before, interval) {
  element.hidden = !bar
  if (!bar) return
  time.textContent = moment(bar.time, interval)
  imported.hidden = !bar.imported
  open.hidden = bar.closed !== false
  element.dataset.way = Number(bar.close) < Number(bar.open) ? 'down' : 'up'
  for (const [name] of PARTS) {
    const text = name === 'change' ? change(bar, before) : bar[name]
    rows[name].part.hidden = text == null
    if (text != null && rows[name].value.textContent !== text) rows[name].value.textContent = text
  }
}

function change(bar, before) {
  if (!before || !Number(before.close)) return null
  const share = (Number(bar.close) / Number(before.close) - 1) * 100
  return `${share < 0 ? '−' : '+'}${Math.abs(share).toFixed(2)} %`
}
