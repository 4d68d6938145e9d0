// What the keyboard does on the chart page.
const STEP = 20 // bars a page of scrolling moves

export function keys({ view, bars, search, toggleZone, cursor, point }) {
  const help = document.getElementById('keys')
  const toggleHelp = () => help.open ? help.close() : help.showModal()
  help.onclick = () => help.close()
  document.querySelector('[data-act=keys]').onclick = toggleHelp

  function walk(step) {
    const place = Math.max(0, Math.min(bars.list.length - 1, (cursor() ?? bars.list.length) + step))
    if (bars.list.length) point(bars.list[place])
  }

  function zoom(factor) {
    const range = view.scale.getVisibleLogicalRange()
    if (range) view.scale.setVisibleLogicalRange({ from: range.to - (range.to - range.from) * factor, to: range.to })
  }

  const actions = {
    '/': () => search(), '?': toggleHelp, u: toggleZone, t: () => document.querySelector('[data-act=theme]').click(),
    ArrowLeft: shift => shift ? view.scroll(-STEP) : walk(-1), ArrowRight: shift => shift ? view.scroll(STEP) : walk(1),
    '+': () => zoom(0.8), '=': () => zoom(0.8), '-': () => zoom(1.25), Home: () => view.oldest(), End: () => view.newest(),
    Escape: () => point(),
  }

  addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open] input')) return
    if (event.target.closest('[role=radiogroup]') && event.key.startsWith('Arrow')) return
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key]
    if (/^\d$/.test(event.key)) search(event.key)
    else if (action) action(event.shiftKey)
    else return
    event.preventDefault()
  })
}
