/** Changing a stored message's meta, forced or not, and removing it. */
import { type Core, notFound } from './core.js'
import { assertVersion } from './errors.js'
import { decodeMeta, type MessageRecord, metaOf } from './layout.js'
import type { RemoveOptions, SwapOutMetaOptions, SwapOutMetaResult } from './message.js'
import { parseId } from './message-id.js'
import { removeMessage } from './removal.js'

export class Changes {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  /** Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_VERSION, and what `change` throws; then nothing is written. */
  async update(
    id: string,
    change: (record: MessageRecord) => MessageRecord,
    { force = true, ifVersion }: SwapOutMetaOptions,
  ): Promise<SwapOutMetaResult> {
    const key = parseId(id)
    const { metas, committer } = this.#core
    this.#core.assertWritable()
    if (!force && !metas.isBusy(key)) {
      const record = this.#core.record(key, id)
      assertVersion(record, id, ifVersion)
      const next = change(record)
      metas.defer(key, next)
      return { result: 'partial', meta: metaOf(key, next) }
    }
    const next = await metas.during(key, async () => {
      const written = await committer.submit((tx) => {
        const record = metas.current(tx, key)
        if (record === undefined) throw notFound(id)
        assertVersion(record, id, ifVersion)
        const next = change(record)
        metas.propose(tx, key, next)
        return next
      }, 512)
      metas.forget(key)
      return written
    })
    return { result: this.#core.isDurable ? 'complete' : 'partial', meta: metaOf(key, next) }
  }

  /** Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_VERSION. */
  async remove(id: string, { ifVersion }: RemoveOptions = {}): Promise<void> {
    const key = parseId(id)
    const { metas, committer, bodies } = this.#core
    this.#core.assertWritable()
    const afterwards = await metas.during(key, async () => {
      const removed = await committer.submit((tx) => {
        const stored = tx.get('messages', key)
        const record = metas.current(tx, key)
        if (stored === undefined || record === undefined) throw notFound(id)
        assertVersion(record, id, ifVersion)
        return removeMessage(tx, bodies, key, decodeMeta(key, stored))
      }, 256)
      metas.forget(key)
      return removed
    })
    afterwards()
  }
}
