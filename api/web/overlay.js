// Draws what candles cannot say: where bars are missing or on their way, which are imported, which were just repaired.
const GLOW = 1600 // ms that a repaired bar is lit

export class Overlay {
  spans = [] // { lo, hi, label, busy }: places on the time scale, in bars
  imported = [] // [lo, hi] places of bars that were imported
  #lit = new Map() // place → since when
  #views = [this.#view('bottom', this.#bands), this.#view('top', this.#strips)]

  constructor(colours) { this.colours = colours }
  attached({ chart, requestUpdate }) { this.scale = chart.timeScale(); this.redraw = requestUpdate }
  paneViews() { return this.#views }

  light(place) {
    this.#lit.set(place, performance.now())
    this.redraw()
  }

  #view(order, draw) {
    const renderer = { draw: target => target.useMediaCoordinateSpace(scope => draw.call(this, scope)) }
    return { zOrder: () => order, renderer: () => renderer }
  }

  // The pixels of the bars from one place to another.
  #shown(lo, hi, width) {
    const x = place => this.scale.logicalToCoordinate(place), half = Math.max(1.5, this.scale.options().barSpacing / 2)
    const left = Math.max(0, x(lo) - half), right = Math.min(width, x(hi) + half)
    return [left, Math.max(0, right - left)]
  }

  #bands({ context, mediaSize: { width, height } }) {
    for (const span of this.spans) this.#missing(context, ...this.#shown(span.lo, span.hi, width), height, span)
    this.#glow(context, width, height)
  }

  #strips({ context, mediaSize: { width, height } }) {
    const { imported, missing, accent } = this.colours()
    const strip = (colour, lo, hi) => {
      const [left, wide] = this.#shown(lo, hi, width)
      context.fillStyle = colour
      context.fillRect(left, height - 3, wide, 3)
    }
    for (const [lo, hi] of this.imported) strip(imported, lo, hi)
    for (const { lo, hi, busy } of this.spans) strip(busy ? accent : missing, lo, hi)
  }

  #missing(context, left, wide, height, { label, busy }) {
    if (!wide) return
    const right = left + wide, colour = busy ? this.colours().accent : this.colours().missing
    context.save()
    context.beginPath()
    context.rect(left, 0, wide, height)
    context.clip()
    context.fillStyle = context.strokeStyle = colour
    context.globalAlpha = 0.06
    context.fillRect(left, 0, wide, height)
    context.globalAlpha = 0.16
    context.beginPath()
    for (let at = left - height - (left % 9); at < right; at += 9) {
      context.moveTo(at, height)
      context.lineTo(at + height, 0)
    }
    context.stroke()
    context.globalAlpha = 1
    context.font = '11px ui-sans-serif, system-ui, sans-serif'
    context.textAlign = 'center'
    if (wide > context.measureText(label).width + 16) context.fillText(label, left + wide / 2, height - 12)
    context.restore()
  }

  #glow(context, width, height) {
    const now = performance.now()
    for (const [place, since] of this.#lit) {
      const rest = 1 - (now - since) / GLOW
      if (rest <= 0) this.#lit.delete(place)
      context.globalAlpha = 0.22 * Math.max(0, rest)
      context.fillStyle = this.colours().accent
      const [left, wide] = this.#shown(place, place, width)
      context.fillRect(left, 0, wide, height)
    }
    context.globalAlpha = 1
    if (this.#lit.size) requestAnimationFrame(this.redraw)
  }
}
