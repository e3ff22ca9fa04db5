/**
 * What may become of a message's content once it is stored: replaced, copy on write, so that others that
 * share it keep theirs; or dropped, the meta staying. Each is one transaction with the count of the body.
 */
import { type Bodies, Staged } from './bodies.js'
import { contentDropped, release } from './body-refs.js'
import type { Committer, Transaction } from './committer.js'
import { invalid, SpoolError } from './errors.js'
import { type BodyRef, DROPPED, isDropped, type MessageRecord } from './layout.js'
import type { ContentOptions, StagedBody } from './message.js'
import type { IdGenerator } from './message-id.js'
import type { MetaWrites } from './meta-writes.js'

export interface ContentsParts {
  readonly committer: Committer
  readonly metas: MetaWrites
  readonly bodies: Bodies
  readonly ids: IdGenerator
}

export class Contents {
  readonly #parts: ContentsParts

  constructor(parts: ContentsParts) {
    this.#parts = parts
  }

  /** Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_VERSION; then a staged body is the caller's again. */
  async replace(
    key: Buffer,
    id: string,
    given: StagedBody | Uint8Array,
    options: ContentOptions,
  ): Promise<MessageRecord> {
    const { bodies, ids } = this.#parts
    const ours = !(given instanceof Staged)
    if (ours && !(given instanceof Uint8Array))
      throw invalid('body', 'neither bytes nor a staged body')
    const staged = ours ? await bodies.stage(given as Uint8Array) : given
    if (staged.owner !== bodies) throw invalid('body', 'staged in another spool')
    if (staged.state !== 'free') throw invalid('body', `the staged body is ${staged.state}`)
    staged.state = 'taken'
    const weight = staged.weight + 256
    try {
      return await this.#change(key, id, weight, options, (tx) => {
        const body = bodies.take(tx, staged, ids.next())
        tx.add('bodies', 1)
        tx.add('bytes', staged.size)
        tx.add('bytesStored', staged.size)
        return { size: staged.size, body, sha256: staged.digest }
      })
    } catch (error) {
      staged.state = 'free'
      if (ours) await staged.discard()
      throw error
    }
  }

  /** Throws SPOOL_ERR_NOT_FOUND, also when the content was dropped before, and SPOOL_ERR_VERSION. */
  drop(key: Buffer, id: string, options: ContentOptions): Promise<MessageRecord> {
    return this.#change(key, id, 256, options, (_tx, record) => {
      if (isDropped(record)) throw contentDropped(id)
      return DROPPED
    })
  }

  async #change(
    key: Buffer,
    id: string,
    weight: number,
    { ifVersion, ifSha256 }: ContentOptions,
    next: (tx: Transaction, record: MessageRecord) => BodyRef,
  ): Promise<MessageRecord> {
    const { committer, metas, bodies } = this.#parts
    const changed = await metas.during(key, async () => {
      const written = await committer.submit((tx) => {
        const record = metas.current(tx, key)
        if (record === undefined) {
          throw new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id}`, { id })
        }
        check(record, id, ifVersion, ifSha256)
        const ref = next(tx, record)
        const afterwards = release(tx, bodies, record)
        const after = { ...record, ...ref, version: record.version + 1 }
        metas.propose(tx, key, after)
        return { after, afterwards }
      }, weight)
      metas.forget(key)
      return written
    })
    changed.afterwards()
    return changed.after
  }
}

function check(
  record: MessageRecord,
  id: string,
  ifVersion: number | undefined,
  ifSha256: string | null | undefined,
): void {
  const sha256 = isDropped(record) ? null : record.sha256.toString('hex')
  const { version } = record
  const stale =
    (ifVersion !== undefined && ifVersion !== version) ||
    (ifSha256 !== undefined && ifSha256 !== sha256)
  if (!stale) return
  throw new SpoolError(
    'SPOOL_ERR_VERSION',
    `${id} stands at version ${version}, its content is ${sha256 ?? 'dropped'}`,
    { id, version, advice: 'read it again and repeat the change' },
  )
}
