/** Reading messages back: content or parts of it, and meta and content of one moment. */
import type { Core } from './core.js'
import { notFound } from './core.js'
import { invalid } from './errors.js'
import { type BodyRef, decodeMeta, isDropped, metaOf } from './layout.js'
import type { ByteRange, MessageMeta, MessageSnapshot, SwappedBody } from './message.js'
import { parseId } from './message-id.js'
import { type ContentStructure, readHeaders, readStructure } from './parts.js'
import { isCount } from './validate.js'

/** A range of a content, or how it follows from the content. */
export type WantedRange = ByteRange | ((content: { size: number; sha256: string }) => ByteRange)

export class SwapIns {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  /** Throws SPOOL_ERR_NOT_FOUND, also when the content was dropped; SPOOL_ERR_INVALID, SPOOL_ERR_CORRUPT. */
  content(id: string, range?: WantedRange): SwappedBody {
    const { ref } = this.#core.contentOf(id)
    const wanted = range === undefined ? { start: 0, end: ref.size } : rangeOf(ref, range)
    return this.#core.bodies.read(ref, wanted, this.#onCorrupt(id))
  }

  async headers(id: string): Promise<SwappedBody> {
    return readHeaders(this.#core.bodies, this.#core.contentOf(id).ref, this.#onCorrupt(id))
  }

  async structure(id: string): Promise<ContentStructure> {
    return readStructure(this.#core.bodies, this.#core.contentOf(id).ref, this.#onCorrupt(id))
  }

  meta(id: string): MessageMeta {
    const key = parseId(id)
    const read = () => metaOf(key, this.#core.record(key, id))
    return this.#core.hooks.swappedIn(id, read, (meta) => meta)
  }

  snapshot(id: string): MessageSnapshot {
    const key = parseId(id)
    this.#core.assertOpen()
    return this.#core.hooks.swappedIn(
      id,
      () => this.#snapshot(key, id),
      ({ meta }) => meta,
    )
  }

  #snapshot(key: Buffer, id: string): MessageSnapshot {
    const { store, metas, bodies } = this.#core
    const bytes = store.db('messages').get(key)
    if (bytes === undefined) throw notFound(id)
    const stored = decodeMeta(key, bytes)
    const waiting = metas.waiting(key)
    // A write that waits builds on the content it saw; with another one stored it is stored with that.
    const record = waiting?.body.equals(stored.body) ? waiting : stored
    const body = isDropped(record) ? null : bodies.read(record, { start: 0, end: record.size })
    return { meta: metaOf(key, record), body }
  }

  #onCorrupt(id: string): (error: unknown) => void {
    return (error) => this.#core.unreadable(id, error)
  }
}

function rangeOf(ref: BodyRef, range: WantedRange): ByteRange {
  const { start, end } =
    typeof range === 'function'
      ? range({ size: ref.size, sha256: ref.sha256.toString('hex') })
      : range
  if (!isCount(start) || !isCount(end) || start > end || end > ref.size) {
    throw invalid('range', `not within the ${ref.size} bytes of the body`)
  }
  return { start, end }
}
