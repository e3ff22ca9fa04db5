// What is no spool, or none that LMDB can open, is refused in words; it would end the process otherwise.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { checkSpool, openSpool, repairSpool } from '../../spool/index.js'
import { pack, STATE_FORMAT } from '../../spool/layout.js'
import { Store } from '../../spool/store.js'
import { temporaryDirectory } from '../support/service.js'

let made: Buffer
beforeAll(async () => {
  made = await spoolFile()
})

async function spoolFile(): Promise<Buffer> {
  const path = await temporaryDirectory()
  const spool = await openSpool({ path })
  await spool.swapOut({ mailfrom: 'a@b.example', rcptto: ['c@d.example'], body: Buffer.from('x') })
  await spool.close()
  return readFile(join(path, 'data.mdb'))
}

async function directoryWith(bytes: Uint8Array): Promise<string> {
  const path = await temporaryDirectory()
  await writeFile(join(path, 'data.mdb'), bytes)
  return path
}

describe('a file that is no store', () => {
  const damagedMeta = () =>
    Buffer.concat([made.subarray(0, 4120), Buffer.alloc(8), made.subarray(4128)])
  const files: [string, () => Uint8Array][] = [
    ['text', () => Buffer.from('hello\n')],
    ['zeros', () => Buffer.alloc(20_000)],
    ['one meta page damaged', damagedMeta],
    ['cut short', () => made.subarray(0, 8192)],
  ]
  for (const [name, bytes] of files) {
    it(`${name}: told, to readers and owners alike, and left as it is`, async () => {
      const path = await directoryWith(bytes())
      for (const readOnly of [true, false]) {
        await expect(openSpool({ path, readOnly })).rejects.toMatchObject({
          code: 'SPOOL_ERR_CORRUPT',
          file: join(path, 'data.mdb'),
          message: expect.stringContaining('bobbin spool repair'),
        })
      }
      expect((await checkSpool(path)).counts['page-damaged']).toBeGreaterThan(0)
    })
  }

  it('empty: a new spool to its owner, none to a reader', async () => {
    const path = await directoryWith(Buffer.alloc(0))
    await expect(openSpool({ path, readOnly: true })).rejects.toMatchObject({
      code: 'SPOOL_ERR_OPEN',
      message: expect.stringContaining('empty'),
    })
    await (await openSpool({ path })).close()
    await (await openSpool({ path, readOnly: true })).close()
  })
})

it('no spool is made for one who wants one that is there', async () => {
  const path = await temporaryDirectory()
  await expect(openSpool({ path, create: false })).rejects.toMatchObject({ code: 'SPOOL_ERR_OPEN' })
  await mkdir(join(path, 'data.mdb'))
  await expect(openSpool({ path, create: false })).rejects.toMatchObject({ code: 'SPOOL_ERR_OPEN' })
  expect(await readdir(path)).toEqual(['data.mdb'])
})

it('a format of a later version: refused by readers, owners, check and repair, and not touched', async () => {
  const path = await directoryWith(made)
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  await store.write(() => void store.db('state').put(STATE_FORMAT, pack(7)))
  await store.close()
  const before = await readFile(join(path, 'data.mdb'))
  const attempts = [
    () => openSpool({ path }),
    () => openSpool({ path, readOnly: true }),
    () => checkSpool(path),
    () => repairSpool(path),
  ]
  for (const attempt of attempts) {
    await expect(attempt()).rejects.toMatchObject({
      code: 'SPOOL_ERR_OPEN',
      message: expect.stringMatching(/format 7.*use the version that wrote it/),
    })
  }
  expect(before.equals(await readFile(join(path, 'data.mdb')))).toBe(true)
})

it('of a file that a service writes to, a reader sees the newest commit, whatever page it is on', async () => {
  const path = await temporaryDirectory()
  const spool = await openSpool({ path })
  try {
    let storing = true
    let opened = 0
    const writes = (async () => {
      // However fast the disk is, it is opened in the middle of it.
      for (let i = 0; i < 100 || opened < 2; i++)
        await spool.swapOut({ mailfrom: '', rcptto: ['c@d.example'], body: Buffer.from(`${i}`) })
      storing = false
    })()
    do {
      await (await openSpool({ path, readOnly: true })).close()
      opened++
    } while (storing)
    await writes
    expect(opened).toBeGreaterThan(1)
  } finally {
    await spool.close()
  }
})
