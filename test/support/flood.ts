/** More requests than a service can take: requests made beforehand, pipelined over a few connections, at a given rate. */
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

export interface Answers {
  /** Requests that were sent. */
  sent: number
  /** How many answers each status had. */
  readonly statuses: Map<number, number>
  /** Ids of the messages that were acknowledged. */
  readonly ids: string[]
  /** Answers of 503 that do not say when to come back. */
  withoutRetryAfter: number
  /** Codes of the reasons that answers gave. */
  readonly codes: Set<string>
}

const TICK_MS = 10

export class Flood {
  readonly answers: Answers = {
    sent: 0,
    statuses: new Map(),
    ids: [],
    withoutRetryAfter: 0,
    codes: new Set(),
  }
  readonly #request: Buffer
  readonly #sockets: Socket[] = []
  #answered = 0
  #next = 0

  private constructor(bodyBytes: number) {
    const head = `POST /v1/messages?from=a@example.com&to=b@example.net HTTP/1.1\r\nhost: localhost\r\ncontent-type: message/rfc822\r\ncontent-length: ${bodyBytes}\r\n\r\n`
    this.#request = Buffer.concat([Buffer.from(head), Buffer.alloc(bodyBytes, 'x')])
  }

  static async connect(url: string, connections: number, bodyBytes: number): Promise<Flood> {
    const flood = new Flood(bodyBytes)
    const { hostname, port } = new URL(url)
    for (let i = 0; i < connections; i++) {
      const socket = connect(Number(port), hostname)
      socket.on('error', () => undefined)
      await new Promise((resolve) => socket.once('connect', resolve))
      flood.#read(socket)
      flood.#sockets.push(socket)
    }
    return flood
  }

  /** Sends at this rate, whatever is answered, for so long. */
  async run(requestsPerSecond: number, milliseconds: number): Promise<void> {
    const start = performance.now()
    for (let sent = 0; ; ) {
      const elapsed = Math.min(performance.now() - start, milliseconds)
      for (const due = (elapsed / 1000) * requestsPerSecond; sent < due; sent++) this.#send()
      if (elapsed >= milliseconds) return
      await delay(TICK_MS)
    }
  }

  /** As many as are answered, with so many on their way, for so long. @returns answers a second */
  async measure(milliseconds: number, outstanding: number): Promise<number> {
    const start = performance.now()
    const before = this.#answered
    for (;;) {
      while (this.answers.sent - this.#answered < outstanding) this.#send()
      await delay(1)
      const elapsed = performance.now() - start
      if (elapsed >= milliseconds) return ((this.#answered - before) / elapsed) * 1000
    }
  }

  /** Resolves when all that was sent is answered. */
  async settled(): Promise<void> {
    while (this.#answered < this.answers.sent) await delay(TICK_MS)
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  #send(): void {
    this.#sockets[this.#next++ % this.#sockets.length]!.write(this.#request)
    this.answers.sent++
  }

  #read(socket: Socket): void {
    let text = ''
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1')
      for (;;) {
        const end = text.indexOf('\r\n\r\n')
        if (end < 0) return
        const head = text.slice(0, end)
        const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1])
        if (text.length < end + 4 + length) return
        this.#note(head, text.slice(end + 4, end + 4 + length))
        text = text.slice(end + 4 + length)
      }
    })
  }

  #note(head: string, body: string): void {
    const { statuses, ids, codes } = this.answers
    const status = Number(head.slice(9, 12))
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    this.#answered++
    const answer = JSON.parse(body) as {
      ids?: string[]
      code?: string
      reasons?: { code: string }[]
    }
    ids.push(...(answer.ids ?? []))
    if (status === 503 && !/\r\nretry-after: \d+/i.test(head)) this.answers.withoutRetryAfter++
    if (answer.code !== undefined) codes.add(answer.code)
    for (const { code } of answer.reasons ?? []) codes.add(code)
  }
}
