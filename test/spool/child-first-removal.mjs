// Removes all contents of the store in argv[2] in one transaction, the first since it was opened.
import { Store } from '../../dist/spool/store.js'

const store = await Store.open({
  path: process.argv[2],
  readOnly: false,
  mode: 0o640,
  mapSize: undefined,
})
const chunks = store.db('chunks')
const keys = [...chunks.getKeys({})].map((key) => Buffer.from(key))
await store.write(() => {
  for (const key of keys) void chunks.remove(key)
})
await store.close()
console.log('removed')
