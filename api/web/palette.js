// The dialog that finds another symbol or interval.
import { isInterval } from './times.js'

const dialog = document.getElementById('palette')
const input = dialog.querySelector('input'), list = dialog.querySelector('ul')
let symbols = [], choose = () => {}

export function palette(found, onChoice) {
  symbols = found
  choose = onChoice
  if (dialog.open) fill() // who types sooner than the symbols come sees them then
}

export function open(text = '') {
  input.value = text
  dialog.showModal()
  input.focus()
  fill()
}

function fill() {
  const text = input.value.trim(), wanted = text.toLowerCase()
  const rank = ({ symbol }) => symbol.toLowerCase().indexOf(wanted)
  const names = symbols.filter(known => rank(known) >= 0)
    .sort((a, b) => rank(a) - rank(b) || a.symbol.localeCompare(b.symbol)).slice(0, 50)
  list.replaceChildren(
    ...(isInterval(wanted) ? [item({ interval: wanted }, wanted, 'interval')] : []),
    ...names.map(known => item({ symbol: known.symbol }, known.symbol, [known.source, known.market].filter(Boolean).join(' · '))),
  )
  if (!list.firstChild) list.append(note(text && !/^\d/.test(text) ? 'No such symbol.' : 'A number and m, h, d, w or mo.'))
  select(list.querySelector('[role=option]'))
}

function item(choice, title, detail) {
  const made = document.createElement('li'), name = document.createElement('b')
  made.role = 'option'
  name.textContent = title
  made.append(name, detail)
  made.onclick = () => take(choice)
  made.onpointermove = () => select(made)
  return made
}

function note(text) {
  const made = document.createElement('li')
  made.className = 'note'
  made.textContent = text
  return made
}

function select(wanted) {
  for (const each of list.children) each.ariaSelected = String(each === wanted)
  wanted?.scrollIntoView({ block: 'nearest' })
}

function take(choice) {
  dialog.close()
  choose(choice)
}

input.oninput = fill
dialog.onclick = event => event.target === dialog && dialog.close()
dialog.onkeydown = event => {
  const now = list.querySelector('[aria-selected=true]')
  if (event.key === 'ArrowDown') select(now?.nextElementSibling ?? now)
  else if (event.key === 'ArrowUp') select(now?.previousElementSibling ?? now)
  else if (event.key === 'Enter') now?.click()
  else return
  event.preventDefault()
}
