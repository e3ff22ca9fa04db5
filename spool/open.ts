/** Opening a spool: as its owner, or for reading only beside one. */
import { invalid } from './errors.js'
import { DEFAULT_MODE, packFrom, type SpoolOptions } from './options.js'
import { own } from './owner.js'
import { Spool } from './spool.js'
import { Store } from './store.js'

/** Throws SPOOL_ERR_OWNED, SPOOL_ERR_OPEN, SPOOL_ERR_INVALID. Does not scan the spool. */
export async function openSpool(options: SpoolOptions): Promise<Spool> {
  const { path, readOnly = false, mode = DEFAULT_MODE, mapSize } = options
  if (typeof path !== 'string' || path === '') throw invalid('path', 'not a directory name')
  const packs = Number.isFinite(packFrom(options))
  const storeOptions = { path, readOnly, mode, mapSize, packs }
  if (readOnly) return new Spool(await Store.open(storeOptions), null, options)
  if (options.create === false) await Store.mustExist(path)
  await Store.makeDirectory(storeOptions)
  const owner = await own(path, mode)
  try {
    return new Spool(await Store.open(storeOptions), owner, options)
  } catch (error) {
    await owner.release()
    throw error
  }
}
