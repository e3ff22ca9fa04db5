// Damages rows of the spool in argv[2], as argv[3] says, while another process serves it.
import { decodeMeta, queueRow } from '../../dist/spool/layout.js'
import { Store } from '../../dist/spool/store.js'

const [, , path, steps] = process.argv
const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
await store.write(() => {
  for (const [what, text] of JSON.parse(steps)) {
    const id = Buffer.from(text.replaceAll('-', ''), 'hex')
    const record = decodeMeta(id, store.db('messages').get(id))
    const chunk = Buffer.concat([record.body, Buffer.alloc(4)])
    if (what === 'corruptMeta') void store.db('messages').put(id, Buffer.from('nonsense'))
    if (what === 'removeQueueRow') void store.db('queue').remove(queueRow(id, record).key)
    if (what === 'removeBody') void store.db('chunks').remove(chunk)
    if (what === 'flipBody') {
      const bytes = Buffer.from(store.db('chunks').get(chunk))
      bytes[0] ^= 0xff
      void store.db('chunks').put(chunk, bytes)
    }
  }
})
await store.close()
