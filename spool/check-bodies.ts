/** Checks the bodies: their chunks, their counts, and that each has a message or is known to have none. */
import { createHash, type Hash } from 'node:crypto'
import type { BodyUsers } from './body-users.js'
import { bodyRefOf } from './check-messages.js'
import type { Findings } from './check-report.js'
import { isPacked, unpackChunk } from './chunk-codec.js'
import type { Pace } from './jobs.js'
import { type BodyRef, CHUNK_BYTES, CHUNK_KEY_BYTES, chunkLength, splitChunkKey } from './layout.js'
import { ID_BYTES } from './message-id.js'
import type { Snapshot } from './snapshot.js'

const AFTER_ALL = Buffer.alloc(64, 0xff)

/** The bodies of one pass, in order, each with all its chunks. */
export async function checkBodies(
  snapshot: Snapshot,
  users: BodyUsers,
  deep: boolean,
  findings: Findings,
  pace: Pace,
): Promise<{ bodies: number; bytes: number; staged: number }> {
  const range = rangeOf(users)
  const walk = new ChunkWalk(snapshot, users, deep, findings)
  if (deep) {
    for (const { key, value } of snapshot.range('chunks', range)) {
      await pace.step(CHUNK_STEPS)
      walk.take(key, value)
    }
  } else {
    // Their pages are not touched: a check of all rows costs what the rows are, whatever the contents.
    for (const key of snapshot.keys('chunks', range)) {
      await pace.step()
      walk.take(key, undefined)
    }
  }
  walk.end()
  for (const key of snapshot.keys('refs', range)) {
    await pace.step()
    checkCount(snapshot, users, key, findings)
  }
  let staged = 0
  for (const key of snapshot.keys('staged', range)) {
    await pace.step()
    staged++
    if (users.find(key) >= 0) {
      const what = key.toString('hex')
      findings.add({ problem: 'staged-has-message', what, db: 'staged', key, body: key })
    }
  }
  let bytes = 0
  for (let i = 0; i < users.size; i++) {
    await pace.step()
    bytes += walk.checkRest(i)
  }
  return { bodies: users.size, bytes, staged }
}

/** A chunk is worth so many other rows. */
const CHUNK_STEPS = 4

function rangeOf(users: BodyUsers): { start?: Buffer; end: Buffer } {
  const { after, last } = users.window
  return {
    // What begins with the body is a chunk of it, so the next begins after all of those.
    ...(after === undefined ? {} : { start: Buffer.concat([after, AFTER_ALL]) }),
    end: last === undefined ? AFTER_ALL : Buffer.concat([last, AFTER_ALL]),
  }
}

function checkCount(snapshot: Snapshot, users: BodyUsers, key: Buffer, findings: Findings): void {
  const row = users.find(key)
  const value = snapshot.get('refs', key)
  const stored = value?.length === 4 ? value.readUInt32BE() : undefined
  const counted = row < 0 ? 0 : users.at(row).users
  const name = key.toString('hex')
  if (key.length !== ID_BYTES) {
    findings.add({ problem: 'row-malformed', what: `refs: ${name}`, db: 'refs', key })
  } else if (stored === undefined || counted === 0) {
    const what = counted === 0 ? `body ${name}: counted, but no message has it` : `body ${name}`
    findings.add({ problem: 'refs-wrong', what, db: 'refs', key, delta: counted - (stored ?? 1) })
  } else if (stored !== counted) {
    const what = `body ${name}: ${stored} stored, ${counted} messages`
    findings.add({ problem: 'refs-wrong', what, db: 'refs', key, delta: counted - stored })
  }
}

type BodyProblem =
  | 'body-chunk-missing'
  | 'body-chunk-undecodable'
  | 'body-size-wrong'
  | 'body-hash-wrong'

/** Goes through the chunks in key order, body by body. */
class ChunkWalk {
  readonly #snapshot: Snapshot
  readonly #users: BodyUsers
  readonly #deep: boolean
  readonly #findings: Findings
  /** Rows of the table whose chunks came by. */
  readonly #seen: Uint8Array
  #body: Buffer | undefined
  #row = -1
  #ref: BodyRef | undefined
  #next = 0
  #isWrong = false
  #hash: Hash | undefined

  constructor(snapshot: Snapshot, users: BodyUsers, deep: boolean, findings: Findings) {
    this.#snapshot = snapshot
    this.#users = users
    this.#deep = deep
    this.#findings = findings
    this.#seen = new Uint8Array(users.size)
  }

  /** `value`: undefined when it is not looked at. */
  take(key: Buffer, value: Buffer | undefined): void {
    if (key.length !== CHUNK_KEY_BYTES) {
      const what = `chunks: ${key.toString('hex')}`
      this.#findings.add({ problem: 'row-malformed', what, db: 'chunks', key })
      return
    }
    const { body, n } = splitChunkKey(key)
    if (this.#body === undefined || !body.equals(this.#body)) {
      this.end()
      this.#begin(Buffer.from(body))
    }
    const ref = this.#ref
    if (ref === undefined || this.#isWrong) return
    const expected = chunkLength(ref.size, n)
    if (n > this.#next && this.#next * CHUNK_BYTES < ref.size) this.#missing(this.#next)
    else if (expected <= 0) this.#wrong(`chunk ${n} is beyond its ${ref.size} bytes`)
    else if (value !== undefined && value.length !== expected && !isPacked(value, expected))
      this.#wrong(`chunk ${n} has ${value.length}, not ${expected}`)
    this.#next = n + 1
    if (value === undefined || this.#hash === undefined || this.#isWrong) return
    const chunk = unpackChunk(value, expected)
    if (chunk === undefined) this.#add('body-chunk-undecodable', `: chunk ${n}`)
    else this.#hash.update(chunk)
  }

  /** The end of a body's chunks. */
  end(): void {
    const ref = this.#ref
    if (ref !== undefined && !this.#isWrong) {
      if (this.#next * CHUNK_BYTES < ref.size) this.#missing(this.#next)
      else if (this.#hash !== undefined && !this.#hash.digest().equals(ref.sha256)) {
        this.#add('body-hash-wrong', '')
      } else if (this.#row >= 0 && this.#users.at(this.#row).disagree) {
        this.#add('body-size-wrong', ': its messages disagree about it')
      }
    }
    this.#body = undefined
    this.#ref = undefined
    this.#row = -1
  }

  /** What is to be said of a body whether it has chunks or not. Returns its size. */
  checkRest(row: number): number {
    const { body, id, users } = this.#users.at(row)
    const ref = this.#refOf(id)
    if (ref === undefined) return 0
    if (this.#seen[row] === 0) {
      this.#begin(body)
      this.end()
    }
    if (users > 1 && this.#snapshot.get('refs', body) === undefined) {
      const what = `body ${body.toString('hex')}: 1 stored, ${users} messages`
      this.#findings.add({ problem: 'refs-wrong', what, db: 'refs', key: body, delta: users - 1 })
    }
    return ref.size
  }

  #begin(body: Buffer): void {
    this.#body = body
    this.#row = this.#users.find(body)
    this.#next = 0
    this.#isWrong = false
    this.#ref = undefined
    this.#hash = undefined
    if (this.#row < 0) {
      if (this.#snapshot.get('staged', body) === undefined) {
        const what = body.toString('hex')
        this.#findings.add({ problem: 'body-orphaned', what, db: 'chunks', key: body, body })
      }
      return
    }
    this.#seen[this.#row] = 1
    this.#ref = this.#refOf(this.#users.at(this.#row).id)
    if (this.#deep) this.#hash = createHash('sha256')
  }

  #refOf(id: Buffer): BodyRef | undefined {
    const value = this.#snapshot.get('messages', id)
    return value === undefined ? undefined : bodyRefOf(id, value)
  }

  #missing(n: number): void {
    this.#add('body-chunk-missing', `: chunk ${n}`)
  }

  #wrong(what: string): void {
    this.#add('body-size-wrong', `: ${what}`)
  }

  #add(problem: BodyProblem, what: string): void {
    this.#isWrong = true
    const body = this.#body as Buffer
    this.#findings.add({ problem, what: `body ${body.toString('hex')}${what}`, body })
  }
}
