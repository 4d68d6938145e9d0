// Times in UTC or in the browser's zone, and the buckets of an interval.
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone
export const hasZone = !/^(Etc\/)?(UTC|GMT|Universal|Zulu)$/.test(zone)
const UNITS = { m: 60, h: 3600, d: 86400, w: 604800, mo: 2629800 }
const INTERVAL = /^([1-9]\d{0,3})(m|h|d|w|mo)$/

export const local = { on: hasZone && localStorage.zone === 'local' }
export const width = interval => parseInt(interval) * UNITS[interval.replace(/\d+/, '')]
export const isInterval = text => INTERVAL.test(text)
// Hours and longer begin by the local clock where times are local; what is shorter is the same everywhere.
export const zoneOf = interval => local.on && width(interval) >= 3600 ? zone : undefined

const formats = new Map()
function format(options) {
  const key = JSON.stringify([local.on, options])
  if (!formats.has(key)) {
    formats.set(key, new Intl.DateTimeFormat('en-GB', { timeZone: local.on ? zone : 'UTC', hourCycle: 'h23', ...options }))
  }
  return formats.get(key)
}

const DAY = { day: 'numeric', month: 'short', year: 'numeric' }, CLOCK = { hour: '2-digit', minute: '2-digit' }
export const date = time => format(DAY).format(time * 1000)
export const clock = time => format({ ...CLOCK, second: '2-digit' }).format(time * 1000)
export const moment = (time, interval = '1m') =>
  (width(interval) < 86400 ? format({ weekday: 'short', ...DAY, ...CLOCK }) : format({ weekday: 'short', ...DAY }))
    .format(time * 1000).replace(/,/g, '')

const TICKS = [{ year: 'numeric' }, { month: 'short' }, { day: 'numeric' }, CLOCK, CLOCK]
export const tick = (time, type) => format(TICKS[type]).format(time * 1000)

// Seconds that the local clock is ahead of UTC; they change on whole quarters of an hour only.
const offsets = new Map()
export function offset(time) {
  if (!local.on) return 0
  const quarter = time - (time % 900)
  if (!offsets.has(quarter)) offsets.set(quarter, -60 * new Date(quarter * 1000).getTimezoneOffset())
  return offsets.get(quarter)
}

export function ago(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`
}
