/**
 * What the spool should hold, as simply as can be: messages in a map, and what becomes of them. Bodies are
 * objects that messages point to; how many share one is counted by looking.
 */
import { DEFAULT_SCHEDULE, type DispositionType, type MessageMeta } from '../../spool/index.js'
import { nextAttempt } from '../../spool/schedule.js'
import type { Content, Patch } from './model-ops.js'
import { bytes, sha256, text } from './support.js'

export interface Body {
  readonly content: Content
  readonly size: number
  readonly sha256: string
}

export interface Lease {
  readonly token: string
  readonly until: number
  readonly unlink: boolean
}

/** All that is known of a message at one moment. */
export interface State {
  readonly meta: Omit<MessageMeta, 'size' | 'sha256' | 'state'>
  readonly body: Body | null
  readonly lease: Lease | null
}

/** Before it has an id. */
export interface NewState {
  readonly meta: Omit<State['meta'], 'id'>
  readonly body: Body | null
}

export interface Message {
  readonly id: string
  now: State
  /** What a crash may bring back: writes that were not forced. */
  older: State[]
  /** It may be in memory alone. */
  held: boolean
}

export interface Claim {
  readonly token: string
  until: number
  ids: string[]
  /** Its messages may have been lost with it. */
  unsure: boolean
}

export interface Kept {
  readonly name: string
  readonly state: State
}

const contents = new Map<string, Buffer>()

export function bytesOf({ kind, size, seed }: Content): Buffer {
  const name = `${kind} ${size} ${seed}`
  let made = contents.get(name)
  if (made === undefined) {
    made = kind === 'text' ? text(size, seed) : bytes(size, seed)
    if (contents.size > 500) contents.clear()
    contents.set(name, made)
  }
  return made
}

export function newBody(content: Content): Body {
  const made = bytesOf(content)
  return { content, size: made.length, sha256: sha256(made) }
}

/** As the spool says it. */
export function metaOf({ meta, body, lease }: State): MessageMeta {
  const idle = meta.retries > 0 ? 'deferred' : 'queued'
  return {
    ...meta,
    size: body?.size ?? 0,
    sha256: body?.sha256 ?? null,
    state: lease === null ? idle : 'leased',
  }
}

/** For comparing: keys in order, whatever they are called. */
export function textOf(meta: MessageMeta): string {
  const entries = (dictionary: Record<string, string>) => Object.entries(dictionary).sort()
  const { context, ...rest } = meta
  return JSON.stringify([Object.entries(rest).sort(), entries(context.conn), entries(context.mess)])
}

/** Where it stands in the queue. */
export function dueOf({ meta, lease }: State): number | null {
  return lease === null ? meta.nextAttempt : lease.until
}

export function changed(
  state: State,
  meta: Partial<State['meta']>,
  more: Partial<State> = {},
): State {
  return { ...state, ...more, meta: { ...state.meta, ...meta, version: state.meta.version + 1 } }
}

export function letGo(state: State): State {
  return changed(state, {}, { lease: null })
}

export function patched(state: State, patch: Patch, now: number): State {
  const { due, retries, retention, binding, context } = patch
  const { mess } = state.meta.context
  return changed(state, {
    ...(due === undefined ? {} : { nextAttempt: timeOf(due, now) }),
    ...(retries === undefined ? {} : { retries }),
    ...(retention === undefined ? {} : { retention }),
    ...(binding === undefined ? {} : { binding: bindingName(binding) }),
    ...(context === undefined
      ? {}
      : {
          context: { ...state.meta.context, mess: context === null ? {} : merged(mess, context) },
        }),
  })
}

function merged(
  dictionary: Record<string, string>,
  patch: Record<string, string | null>,
): Record<string, string> {
  const entries = new Map(Object.entries(dictionary))
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) entries.delete(key)
    else entries.set(key, value)
  }
  return Object.fromEntries(entries)
}

export function timeOf(due: number | null, now: number): number | null {
  return due === null ? null : now + due * 1000
}

export function bindingName(n: number): string {
  return `binding${n}`
}

export function domainName(n: number): string {
  return `domain${n}.example`
}

export interface Outcome {
  readonly events: string[]
  readonly outcome: string
  /** null: it is gone. */
  readonly next: State | null
}

export function disposed(
  state: State,
  type: DispositionType,
  now: number,
  given: number | undefined,
): Outcome {
  const { meta, lease } = state
  if (type === 'attempt' || type === 'rejection') {
    return { events: [type], outcome: 'logged', next: state }
  }
  if (type !== 'transient_failure') return { events: [type], outcome: 'removed', next: null }
  const retries = meta.retries + 1
  const next = nextAttempt({ created: meta.created, failures: retries }, now, DEFAULT_SCHEDULE)
  if (next.expired) return { events: [type, 'expiration'], outcome: 'expired', next: null }
  if (lease?.unlink === true) return { events: [type], outcome: 'removed', next: null }
  const at = given === undefined ? next.at : now + given * 1000
  const after = changed(state, { retries, nextAttempt: at }, { lease: null })
  return { events: [type], outcome: 'deferred', next: after }
}

/** All that the spool has. */
export class World {
  readonly messages = new Map<string, Message>()
  readonly claims = new Map<string, Claim>()
  readonly kept = new Map<string, Kept>()
  /** Under idempotency keys: what was stored, and the answer. */
  readonly keys = new Map<string, { what: string; ids: string[]; until: number }>()
  /** Logged and not relayed, in order. */
  events: string[] = []

  /** The messages in order of creation. */
  get ids(): string[] {
    return [...this.messages.keys()].sort()
  }

  add(id: string, state: NewState, held = false): void {
    const now = { ...state, lease: null, meta: { ...state.meta, id } }
    this.messages.set(id, { id, now, older: [], held })
    this.events.push(`reception ${id}`)
  }

  /** A change that is durable, unless it is said not to be; null: the message is gone. */
  set(message: Message, next: State | null, forced = true): void {
    if (next === null) {
      this.messages.delete(message.id)
      return
    }
    message.older = forced ? [] : [...message.older, message.now]
    message.now = next
  }

  /** In the order in which claims look at them. */
  due(now: number, domain: number | null, binding: number | null): Message[] {
    const isDue = ({ now: state }: Message) => {
      const due = dueOf(state)
      return due !== null && due <= now
    }
    return this.byDue.filter(
      (message) =>
        isDue(message) &&
        (domain === null || message.now.meta.rcptto.endsWith(`@${domainName(domain)}`)) &&
        (binding === null || message.now.meta.binding === bindingName(binding)),
    )
  }

  get byDue(): Message[] {
    return [...this.messages.values()]
      .filter(({ now }) => dueOf(now) !== null)
      .sort((a, b) => {
        const order = (dueOf(a.now) as number) - (dueOf(b.now) as number)
        return order === 0 ? (a.id < b.id ? -1 : 1) : order
      })
  }

  /** Ends the claims whose time has come; logs and removes what has outlived its retention. Returns events. */
  tick(now: number, maxRetention: number | null): string[] {
    for (const claim of [...this.claims.values()]) {
      if (claim.until <= now) this.endClaim(claim)
    }
    const events: string[] = []
    for (const message of [...this.messages.values()]) {
      const { meta, lease } = message.now
      const retention = meta.retention ?? maxRetention
      if (retention === null || meta.created + retention * 1000 > now) continue
      if (lease !== null && lease.until > now) continue
      events.push(`expiration ${message.id}`)
      this.set(message, null)
    }
    return events
  }

  /** What was not forced is on the disk. */
  synced(): void {
    for (const message of this.messages.values()) message.older = []
  }

  endClaim(claim: Claim): void {
    this.claims.delete(claim.token)
    for (const message of this.heldBy(claim.token)) {
      const isGone = message.now.lease?.unlink === true
      this.set(message, isGone ? null : letGo(message.now))
    }
  }

  heldBy(token: string): Message[] {
    return [...this.messages.values()].filter(({ now }) => now.lease?.token === token)
  }

  sums(): Record<string, number> {
    const states = [...this.messages.values()].map(({ now }) => now)
    const bodies = new Set(states.flatMap(({ body }) => body ?? []))
    const count = (is: (state: State) => boolean) => states.filter(is).length
    return {
      messages: states.length,
      bodies: bodies.size,
      bytes: [...bodies].reduce((sum, { size }) => sum + size, 0),
      due: count(({ meta }) => meta.nextAttempt !== null),
      deferred: count((state) => metaOf(state).state === 'deferred'),
      leased: count(({ lease }) => lease !== null),
    }
  }
}
