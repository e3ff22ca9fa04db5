/** What each operation of the model asks of the spool, what the answer must be, and what is so afterwards. */
import { expect } from 'vitest'
import type { MessageMeta } from '../../spool/index.js'
import type { Content, IfVersion, NewOne, Op } from './model-ops.js'
import {
  type Body,
  bindingName,
  bytesOf,
  changed,
  disposed,
  domainName,
  letGo,
  type Message,
  metaOf,
  type NewState,
  newBody,
  patched,
  type State,
  textOf,
  timeOf,
  type World,
} from './model-state.js'
import { sha256 } from './support.js'

export type Answer = { value: unknown } | { error: string }

/** What is there, as the spool says. */
export interface Dump {
  readonly metas: MessageMeta[]
  readonly byDue: string[]
  readonly contents: Record<string, { size: number; sha256: string } | null>
  readonly stats: Record<string, unknown> & { outbox: { records: number } }
  readonly events: string[]
  /** What was logged since all was known. */
  readonly tail: string[]
  readonly quarantine: { name: string; id: string | undefined }[]
}

export interface Prepared {
  readonly call: string
  readonly args: object
  /** Messages, and what else it is about: others at the same time must leave them alone. */
  readonly about: string[]
  /** Holds the answer against the world, and changes that. */
  settle(answer: Answer): void
  /** Killed before it was answered: finds out whether it was done, and changes the world if so. */
  find?: (dump: Dump) => void
  /** It may have logged these, which nothing else tells. */
  readonly maybe?: string[]
}

interface Stored {
  ids: string[]
  result: string
  size: number
  sha256: string
  replayed?: true
}

interface ClaimAnswer {
  lease: string | null
  until: number
  messages: MessageMeta[]
}

/** The spool's threshold in the test. */
export const LARGE = 20_000
const NO_TOKEN = '01890000-0000-7000-8000-000000000000'

export class Calls {
  readonly #world: World
  readonly #defers: boolean
  readonly #maxRetention: number | null
  #made = 0
  now = 0

  constructor(world: World, options: { defers: boolean; maxRetention: number | null }) {
    this.#world = world
    this.#defers = options.defers
    this.#maxRetention = options.maxRetention
  }

  /** null: there is nothing that it could be about. */
  prepare(op: Op): Prepared | null {
    const on = (pick: number, prepare: (message: Message) => Prepared) => {
      const { ids } = this.#world
      const id = ids[pick % ids.length]
      return id === undefined ? null : prepare(this.#world.messages.get(id) as Message)
    }
    switch (op.op) {
      case 'store':
        return op.key === undefined ? this.#store(op.one) : this.#storeOnce(op.key, op.one)
      case 'multi':
        return this.#multi(op.ones, op.shared, op.bad)
      case 'refs':
        return on(op.pick, (message) => this.#refs(message, op.one))
      case 'copy':
        return on(op.pick, (message) => this.#copy(message, op.share))
      case 'read':
        return on(op.pick, (message) => this.#read(message, op.from, op.to))
      case 'parts':
        return on(op.pick, (message) => this.#snapshot(message))
      case 'readRemoved':
        return on(op.pick, (message) => this.#readRemoved(message))
      case 'update':
        return on(op.pick, (message) => this.#update(message, op))
      case 'context':
        return on(op.pick, (message) => this.#context(message, op))
      case 'replace':
        return on(op.pick, (message) => {
          const next = changed(message.now, {}, { body: newBody(op.content) })
          const args = { ...given(op.content, op.via), ...ifVersion(message, op.ifVersion) }
          if (op.ifVersion === 'wrong') return refused(message, 'replace', args, 'VERSION')
          return this.#change(message, 'replace', args, next)
        })
      case 'drop':
        return on(op.pick, (message) => {
          if (message.now.body === null) return refused(message, 'drop', {}, 'NOT_FOUND')
          return this.#change(message, 'drop', {}, changed(message.now, {}, { body: null }))
        })
      case 'remove':
        return on(op.pick, (message) => this.#change(message, 'remove', {}, null))
      case 'unlink':
        return on(op.pick, (message) => {
          const { lease } = message.now
          const isLeased = lease !== null && lease.until > this.now
          const marked = isLeased && changed(message.now, {}, { lease: { ...lease, unlink: true } })
          return this.#change(message, 'unlink', {}, marked || null, {
            value: marked ? 'marked' : 'removed',
          })
        })
      case 'dispose':
        return on(op.pick, (message) => this.#dispose(message, op))
      case 'claim':
        return this.#claim(op)
      case 'extend':
      case 'release':
        return this.#onClaim(op)
      case 'log':
        return this.#plain('log', { event: { type: 'heartbeat' } }, () => {
          this.#world.events.push('heartbeat undefined')
        })
      case 'advance':
        return op.tick ? this.#plain('tick', {}, () => this.tick()) : null
      case 'take':
        return on(op.pick, (message) => this.#take(message))
      case 'takeBack':
      case 'purge':
        return this.#onKept(op)
      case 'relay':
        return this.#plain('relay', { count: op.count }, (events) => {
          expect(events).toEqual(this.#world.events.splice(0, op.count))
        })
      case 'index':
        return this.#plain('index', {}, () => undefined)
      case 'repair':
        return this.#plain('repair', {}, (report) => {
          expect(report).toEqual({ found: 0, problems: [], mended: {} })
        })
      default:
        return null
    }
  }

  #tickEvents: string[] = []

  /** Events of a tick that may come in any order; they are at the end. */
  takeTickEvents(): string[] {
    return this.#tickEvents.splice(0)
  }

  tick(): void {
    const events = this.#world.tick(this.now, this.#maxRetention)
    this.#tickEvents.push(...events)
    this.#world.events.push(...events)
  }

  #store(one: NewOne): Prepared {
    const made = this.#newMessage(one)
    const isHeld = this.#defers && one.deferred && one.content.size <= LARGE
    return {
      call: 'store',
      args: { message: { ...made.message, ...given(one.content, one.via) } },
      about: [],
      settle: (answer) => {
        const { ids, result, size, sha256 } = valueIn(answer) as Stored
        const body = newBody(one.content)
        expect({ size, sha256 }).toEqual({ size: body.size, sha256: body.sha256 })
        expect(result).toBe(isHeld ? 'deferred' : 'complete')
        this.#add(ids, made.states(body), isHeld)
      },
      find: (dump) => void this.#findNew(dump, made.marker, made.states(newBody(one.content))),
    }
  }

  #multi(ones: NewOne[], shared: Content | undefined, bad: boolean): Prepared {
    const made = ones.map((one) => this.#newMessage(one))
    const messages = made.map(({ message }, i) => {
      const { content, via } = ones[i] as NewOne
      return { ...message, ...(shared === undefined ? given(content, via) : {}) }
    })
    if (bad) messages.push({ ...(messages[0] as (typeof messages)[0]), rcptto: [''] })
    const bytes = shared === undefined ? {} : { shared: bytesOf(shared).toString('base64') }
    const states = () => {
      const body = shared && newBody(shared)
      return made.map((each, i) => each.states(body ?? newBody((ones[i] as NewOne).content)))
    }
    return {
      call: 'storeMulti',
      args: { messages, ...bytes },
      about: [],
      settle: (answer) => {
        if (bad) return expectError(answer, 'INVALID')
        const results = valueIn(answer) as Stored[]
        for (const [i, each] of states().entries()) {
          const { ids, result } = results[i] as Stored
          const isHeld = result === 'deferred'
          if (isHeld) expect(this.#defers && ones.every(({ deferred }) => deferred)).toBe(true)
          else expect(result).toBe('complete')
          this.#add(ids, each, isHeld)
        }
      },
      find: (dump) => {
        const all = states()
        const found = all.flatMap((each, i) => this.#findNew(dump, made[i]?.marker ?? '', each))
        expect([0, bad ? 0 : all.flat().length], 'all of them or none').toContain(found.length)
      },
    }
  }

  /** The same key nearly always means the same message. */
  #storeOnce(key: number, like: NewOne): Prepared {
    const variant = like.content.seed % 5 === 0 ? 1 : 0
    const content: Content = { kind: 'text', size: 3000 + key, seed: key + variant + 1 }
    const one = { ...like, content, due: null, retention: undefined, recipients: 2, context: {} }
    const made = this.#newMessage({ ...one, domain: 0, binding: 0 }, `key${key}-${variant}`)
    const name = `key ${key}`
    const kept = this.#world.keys.get(name)
    const isKept = kept !== undefined && kept.until > this.now
    const keep = (ids: string[]) => {
      const until = this.now + 86_400_000
      this.#world.keys.set(name, { what: made.marker, ids, until })
    }
    return {
      call: 'store',
      args: { key: name, message: { ...made.message, ...given(content, one.via) } },
      about: [name],
      settle: (answer) => {
        if (isKept && kept.what !== made.marker) return expectError(answer, 'KEY_REUSED')
        const { ids, replayed, result } = valueIn(answer) as Stored
        expect({ result, replayed: replayed === true }).toEqual({
          result: 'complete',
          replayed: isKept,
        })
        if (isKept) return expect(ids).toEqual(kept.ids)
        this.#add(ids, made.states(newBody(content)), false)
        keep(ids)
      },
      find: (dump) => {
        if (isKept) return
        const ids = this.#findNew(dump, made.marker, made.states(newBody(content)))
        if (ids.length > 0) keep(ids)
      },
    }
  }

  #refs(source: Message, one: NewOne): Prepared {
    const made = this.#newMessage(one)
    const { body } = source.now
    const args = { message: { ...made.message, body: source.id, via: 'refs' } }
    if (body === null) return refused(source, 'store', args, 'NOT_FOUND')
    return {
      call: 'store',
      args,
      about: [source.id],
      settle: (answer) => {
        const { ids, result } = valueIn(answer) as Stored
        expect(result).toBe('complete')
        source.held = false
        this.#add(ids, made.states(body), false)
      },
      find: (dump) => void this.#findNew(dump, made.marker, made.states(body)),
    }
  }

  #copy(source: Message, share: boolean): Prepared {
    const { meta, body } = source.now
    if (body === null) return refused(source, 'copy', { id: source.id, share }, 'NOT_FOUND')
    const state: NewState = {
      meta: { ...meta, protocol: 'internal', created: this.now, retries: 0, version: 1 },
      body: share ? body : { ...body },
    }
    return {
      call: 'copy',
      args: { id: source.id, share },
      // A copy has nothing of its own that it could be told by: one at a time.
      about: [source.id, 'copy'],
      settle: (answer) => {
        if (share) source.held = false
        this.#add((valueIn(answer) as Stored).ids, [state], false)
      },
      find: (dump) => void this.#findNew(dump, meta.batchId, [state]),
    }
  }

  #read({ id, now: { body } }: Message, from: number, to: number): Prepared {
    if (body === null) {
      return this.#plain('read', { id }, () => undefined, 'NOT_FOUND')
    }
    const [start, end] = [from, to].map((at) => at % (body.size + 1)).sort((a, b) => a - b)
    return this.#plain('read', { id, range: { start, end } }, (read) => {
      const bytes = bytesOf(body.content).subarray(start, end)
      const { size, sha256: digest } = body
      expect(read).toEqual({ size, digest, length: bytes.length, sha256: sha256(bytes) })
    })
  }

  #snapshot({ id, now }: Message): Prepared {
    return this.#plain('snapshot', { id }, (read) => {
      const { meta, content } = read as { meta: MessageMeta; content: Dump['contents'][string] }
      expect(textOf(meta)).toBe(textOf(metaOf(now)))
      expect(content).toEqual(shownOf(now.body))
    })
  }

  #readRemoved(message: Message): Prepared {
    const { body } = message.now
    if (body === null) return this.#plain('read', { id: message.id }, () => undefined, 'NOT_FOUND')
    return this.#plain('readRemoved', { id: message.id }, (content) => {
      expect(content).toEqual(shownOf(body))
      this.#world.set(message, null)
    })
  }

  #update(message: Message, op: Op & { op: 'update' }): Prepared {
    const { due: wanted, retries, retention, binding, context } = op.patch
    // With messages in memory it is not known which of those put off a claim would come across.
    const due = this.#defers && message.now.lease !== null ? undefined : wanted
    const patch = {
      ...(due === undefined ? {} : { nextAttempt: timeOf(due, this.now) }),
      ...(retries === undefined ? {} : { retries }),
      ...(retention === undefined ? {} : { retention }),
      ...(binding === undefined ? {} : { binding: bindingName(binding) }),
      ...(context === undefined ? {} : { context: { mess: context } }),
    }
    const args = { patch, options: { force: op.force, ...ifVersion(message, op.ifVersion) } }
    if (op.ifVersion === 'wrong') return refused(message, 'update', args, 'VERSION')
    return this.#change(
      message,
      'update',
      args,
      patched(message.now, { ...op.patch, due }, this.now),
      {
        force: op.force,
      },
    )
  }

  #context(message: Message, op: Op & { op: 'context' }): Prepared {
    const { name, how, key, value, force } = op
    const entries = new Map(Object.entries(message.now.meta.context[name]))
    const isThere = entries.has(key)
    const args = { name, key, value, options: { force } }
    const next = () => {
      const context = { ...message.now.meta.context, [name]: Object.fromEntries(entries) }
      return changed(message.now, { context })
    }
    if (how === 'clean') {
      entries.clear()
      return this.#change(message, 'contextClean', args, next(), { force })
    }
    if (how === 'delete') {
      if (!entries.delete(key)) return refused(message, 'contextDelete', args, 'NOT_FOUND')
      return this.#change(message, 'contextDelete', args, next(), { force })
    }
    if (isThere && how === 'set') return refused(message, 'contextSet', args, 'EXISTS')
    entries.set(key, value)
    const options = { force, replace: how === 'replace' }
    return this.#change(message, 'contextSet', { ...args, options }, next(), { force })
  }

  #dispose(message: Message, op: Op & { op: 'dispose' }): Prepared {
    const { type, due } = op
    const { lease } = message.now
    const token = op.lease === 'right' ? lease?.token : op.lease === 'wrong' ? NO_TOKEN : undefined
    const at = type === 'transient_failure' ? due : undefined
    const disposition = {
      type,
      ...(token === undefined ? {} : { lease: token }),
      ...(at === undefined ? {} : { nextAttempt: this.now + at * 1000 }),
    }
    const isHeld = lease !== null && lease.token === token && lease.until > this.now
    if (token !== undefined && !isHeld) return refused(message, 'dispose', { disposition }, 'LEASE')
    const { events, outcome, next } = disposed(message.now, type, this.now, at)
    const logged = events.map((event) => `${event} ${message.id}`)
    if (next === message.now) {
      const log = () => void this.#world.events.push(...logged)
      return {
        ...this.#plain('dispose', { id: message.id, disposition }, log),
        about: [message.id],
        maybe: logged,
      }
    }
    return this.#change(message, 'dispose', { disposition }, next, { outcome, logged })
  }

  #claim(op: Op & { op: 'claim' }): Prepared {
    const { limit, seconds, domain, binding } = op
    const args = {
      limit,
      leaseSeconds: seconds,
      ...(domain === null ? {} : { domain: domainName(domain) }),
      ...(binding === null ? {} : { binding: bindingName(binding) }),
    }
    return this.#plain('claim', args, (answer) => {
      const { lease: token, until, messages } = answer as ClaimAnswer
      this.#world.synced()
      if (this.#defers) return this.#claimed(answer as ClaimAnswer, op)
      const taken: MessageMeta[] = []
      const end = this.now + seconds * 1000
      for (const message of this.#world.due(this.now, domain, binding)) {
        if (taken.length === limit) break
        const { meta, lease } = message.now
        if (lease?.unlink === true) continue
        if (meta.nextAttempt === null || meta.nextAttempt > this.now) {
          // Put off while it was leased.
          this.#world.set(message, letGo(message.now))
          continue
        }
        const next = { token: token as string, until: end, unlink: false }
        this.#world.set(message, changed(message.now, {}, { lease: next }))
        taken.push(metaOf(message.now))
      }
      expect(messages.map(textOf)).toEqual(taken.map(textOf))
      expect(token === null).toBe(taken.length === 0)
      expect(until).toBe(end)
      if (token === null) return
      const ids = taken.map(({ id }) => id)
      this.#world.claims.set(token, { token, until, ids, unsure: false })
    })
  }

  /** With messages in memory, too, a claim may give fewer than there are. */
  #claimed(
    { lease: token, until, messages }: ClaimAnswer,
    { limit, seconds, domain, binding }: Op & { op: 'claim' },
  ): void {
    const due = this.#world.due(this.now, domain, binding)
    const free = new Map(
      due.filter(({ now }) => now.lease?.unlink !== true).map((message) => [message.id, message]),
    )
    expect(messages.length).toBeLessThanOrEqual(limit)
    expect(messages.length > 0 || free.size === 0 || free.size < due.length).toBe(true)
    for (const meta of messages) {
      const message = free.get(meta.id)
      if (message === undefined) throw new Error(`${meta.id} is not due`)
      const end = this.now + seconds * 1000
      const lease = { token: token as string, until: end, unlink: false }
      this.#world.set(message, changed(message.now, {}, { lease }))
      expect(textOf(meta)).toBe(textOf(metaOf(message.now)))
      free.delete(meta.id)
    }
    expect(token === null).toBe(messages.length === 0)
    const ids = messages.map(({ id }) => id)
    if (token !== null) this.#world.claims.set(token, { token, until, ids, unsure: false })
  }

  #onClaim(op: Op & { op: 'extend' | 'release' }): Prepared | null {
    const claims = [...this.#world.claims.values()]
    const claim = claims[op.pick % claims.length]
    if (claim === undefined) return null
    const { token } = claim
    const isOver = claim.until <= this.now
    const seconds = op.op === 'extend' ? op.seconds : 0
    return this.#plain(
      op.op,
      { lease: token, ...(op.op === 'extend' ? { seconds } : {}) },
      (answer) => {
        if (op.op === 'release') return this.#world.endClaim(claim)
        const until = this.now + seconds * 1000
        const held = this.#world.heldBy(token)
        const { ids, ...rest } = answer as { ids: string[] }
        expect(rest).toEqual({ lease: token, until })
        expect(ids.sort()).toEqual(held.map(({ id }) => id).sort())
        for (const message of held) {
          const lease = { ...(message.now.lease as NonNullable<State['lease']>), until }
          this.#world.set(message, changed(message.now, {}, { lease }))
        }
        if (held.length === 0) this.#world.claims.delete(token)
        claim.until = until
        claim.ids = ids
      },
      isOver ? 'NOT_FOUND' : undefined,
      claim.unsure ? 'NOT_FOUND' : undefined,
    )
  }

  #take(message: Message): Prepared {
    return this.#plain('take', { id: message.id }, (answer) => {
      const names = (answer as string[]).filter((name) => !this.#world.kept.has(name))
      expect(names).toHaveLength(1)
      const [name] = names as [string]
      this.#world.kept.set(name, { name, state: message.now })
      this.#world.set(message, null)
    })
  }

  #onKept(op: Op & { op: 'takeBack' | 'purge' }): Prepared | null {
    const kept = [...this.#world.kept.values()]
    const entry = kept[op.pick % kept.length]
    if (entry === undefined) return null
    const { name, state } = entry
    if (op.op === 'purge') {
      return this.#plain('purge', { name }, () => void this.#world.kept.delete(name))
    }
    const { meta, body } = state
    const isWhole = body !== null
    return this.#plain(
      'takeBack',
      { name },
      (id) => {
        const next = { nextAttempt: this.now, created: this.now, retries: 0, version: 1 }
        const again = { meta: { ...meta, ...next }, body: { ...(body as Body) } }
        this.#add([id as string], [again], false)
        this.#world.kept.delete(name)
      },
      isWhole ? undefined : 'INVALID',
    )
  }

  /** Something that changes one message. */
  #change(
    message: Message,
    call: string,
    args: object,
    next: State | null,
    {
      force = true,
      value,
      outcome,
      logged = [],
    }: { force?: boolean; value?: string; outcome?: string; logged?: string[] } = {},
  ): Prepared {
    const { id } = message
    const apply = () => {
      this.#world.set(message, next, force)
      this.#world.events.push(...logged)
    }
    return {
      call,
      args: { id, ...args },
      about: [id],
      settle: (answer) => {
        const got = valueIn(answer) as { meta?: MessageMeta; result?: string; outcome?: string }
        if (value !== undefined) expect(got).toBe(value)
        if (outcome !== undefined) {
          const at = next === null ? null : next.meta.nextAttempt
          expect(got).toMatchObject({ outcome, nextAttempt: at })
          if (got.result === 'complete') message.held = false
          else
            expect({ held: message.held, ...got }).toMatchObject({ held: true, result: 'deferred' })
        }
        const isContent = call === 'replace' || call === 'drop'
        const meta = isContent ? (got as MessageMeta) : got?.meta
        if (meta !== undefined && next !== null) {
          expect(textOf(meta)).toBe(textOf(metaOf(next)))
          if (!isContent) expect(got.result).toBe(force ? 'complete' : 'partial')
          if (force) message.held = false
        }
        apply()
      },
      find: (dump) => {
        const there = dump.metas.find((meta) => meta.id === id)
        if (there === undefined && message.held) {
          // Lost; what was logged of it is not.
          if (hasAll(dump, logged)) this.#world.events.push(...logged)
        } else if (next === null ? there === undefined : isSame(there, next)) apply()
      },
    }
  }

  /** Something that others must not do at the same time. */
  #plain(
    call: string,
    args: object,
    settle: (value: unknown) => void,
    error?: string,
    orError?: string,
  ): Prepared {
    return {
      call,
      args,
      about: [],
      settle: (answer) => {
        if (error !== undefined) return expectError(answer, error)
        if ('error' in answer && answer.error === `SPOOL_ERR_${orError}`) return
        settle(valueIn(answer))
      },
    }
  }

  #newMessage(one: NewOne, marker = `op${this.#made++}`) {
    const { recipients, domain, binding, due, retention, context, deferred } = one
    const rcptto = Array.from({ length: recipients }, (_, n) => `r${n}@${domainName(domain)}`)
    const nextAttempt = due === undefined ? this.now : timeOf(due, this.now)
    const message = {
      mailfrom: 'sender@example.org',
      rcptto,
      batchId: marker,
      connectionId: 'c',
      binding: bindingName(binding),
      context: { conn: {}, mess: context },
      ...(due === undefined ? {} : { nextAttempt }),
      ...(retention === undefined ? {} : { retention }),
      ...(deferred && this.#defers ? { durability: 'deferred' } : {}),
    }
    const created = this.now
    const states = (body: Body): NewState[] =>
      rcptto.map((recipient) => ({
        meta: {
          mailfrom: message.mailfrom,
          rcptto: recipient,
          created,
          nextAttempt,
          retries: 0,
          version: 1,
          batchId: marker,
          connectionId: 'c',
          protocol: 'rest',
          bindingGroup: 'default',
          binding: message.binding,
          retention: retention ?? null,
          peer: 'unknown',
          context: message.context,
        },
        body,
      }))
    return { message, marker, states }
  }

  #add(ids: readonly string[], states: readonly NewState[], held: boolean): void {
    expect(ids).toHaveLength(states.length)
    for (const [i, id] of ids.entries()) this.#world.add(id, states[i] as NewState, held)
  }

  /** Messages that are there and were not answered, told by their batch and protocol: all of them or none. */
  #findNew(dump: Dump, batch: string, states: readonly NewState[]): string[] {
    const protocol = states[0]?.meta.protocol
    const found = dump.metas.filter(
      (meta) =>
        meta.batchId === batch && meta.protocol === protocol && !this.#world.messages.has(meta.id),
    )
    const ids = found.map(({ id }) => id).sort()
    expect([0, states.length], `messages of ${batch}`).toContain(ids.length)
    if (ids.length > 0) this.#add(ids, states, false)
    return ids
  }
}

function refused(message: Message, call: string, args: object, code: string): Prepared {
  return {
    call,
    args: { id: message.id, ...args },
    about: [message.id],
    settle: (answer) => expectError(answer, code),
  }
}

function given(content: Content, via: NewOne['via']): { body: string; via: string } {
  return { body: bytesOf(content).toString('base64'), via }
}

function ifVersion({ now: { meta } }: Message, which: IfVersion): { ifVersion?: number } {
  if (which === 'none') return {}
  return { ifVersion: which === 'right' ? meta.version : meta.version + 1 }
}

function shownOf(body: Body | null): { size: number; sha256: string } | null {
  return body && { size: body.size, sha256: body.sha256 }
}

function isSame(there: MessageMeta | undefined, state: State): boolean {
  return there !== undefined && textOf(there) === textOf(metaOf(state))
}

function hasAll({ tail }: Dump, logged: readonly string[]): boolean {
  return logged.every((event) => tail.includes(event))
}

function valueIn(answer: Answer): unknown {
  if ('error' in answer) expect.fail(`refused: ${answer.error}`)
  return answer.value
}

function expectError(answer: Answer, code: string): void {
  expect(answer).toEqual({ error: `SPOOL_ERR_${code}` })
}
