// One WebSocket to /v1/stream. It comes back by itself and goes on where it was cut, so nothing is missed or asked twice.
const SILENCE = 40_000 // ms without a word, not even the heartbeat of every 15 s: the connection is dead
const AGAIN = 2000 // ms until what is down is asked for again
const SLOWEST = 15_000 // ms between two tries

export class Feed {
  #subscriptions = new Map()
  #socket = null
  #tries = 0
  #number = 0
  #timer

  // `onState` hears 'connecting', 'open' or 'closed'.
  constructor(onState) {
    this.onState = onState
    addEventListener('online', () => this.#open())
    this.#open()
  }

  // Messages of a subscription go to `hear`; the result ends it.
  subscribe(wish, hear) {
    const id = String(++this.#number)
    this.#subscriptions.set(id, { wish, hear })
    this.#ask(id)
    return () => {
      this.#subscriptions.delete(id)
      this.#send({ op: 'unsubscribe', id })
    }
  }

  #ask(id) {
    const { wish, since } = this.#subscriptions.get(id) ?? {}
    if (wish) this.#send({ op: 'subscribe', id, ...wish, since })
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message))
  }

  #open() {
    if (this.#socket) return
    clearTimeout(this.#timer)
    this.onState('connecting')
    const socket = this.#socket = new WebSocket(`${location.origin.replace('http', 'ws')}/v1/stream`)
    socket.onopen = () => {
      this.#tries = 0
      this.onState('open')
      this.#watch()
      for (const id of this.#subscriptions.keys()) this.#ask(id)
    }
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data))
    socket.onclose = () => this.#lost(socket)
  }

  #hear(message) {
    this.#watch()
    const subscription = this.#subscriptions.get(message.id)
    if (!subscription) return
    if (message.event) subscription.since = message.event
    if (message.type === 'reset') subscription.since = undefined
    // An error ends the subscription. What is down comes back: asked for again, it goes on where it was.
    if (message.status >= 500 || message.status === 429) setTimeout(() => this.#ask(message.id), AGAIN)
    else subscription.hear(message)
  }

  #watch() {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#lost(this.#socket), SILENCE)
  }

  #lost(socket) {
    if (socket !== this.#socket) return
    this.#socket = null
    socket.close()
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#open(), Math.min(SLOWEST, 500 * 2 ** this.#tries++) * (0.75 + Math.random() / 2))
    this.onState('closed')
  }
}
