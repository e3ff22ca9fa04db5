import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { JlogError } from '../../jlog/errors.js'
import { errnoOf, INDEX_FILE_ERRORS, JournalFile, writeFileDurably } from '../../jlog/file.js'
import { quarantineFileRange } from '../../jlog/quarantine.js'
import { makeTemporary } from './journals.js'

let scratch: string
let path: string
const open: JournalFile[] = []

beforeEach(async () => {
  scratch = await makeTemporary()
  path = join(scratch, 'file')
})
afterEach(async () => {
  for (const file of open.splice(0)) await file.close()
  await rm(scratch, { recursive: true, force: true })
})

async function opened(options = { create: 0o640 }): Promise<JournalFile> {
  const file = await JournalFile.open(path, options)
  open.push(file)
  return file
}

describe('reading and writing', () => {
  test('at positions; reads end where the file ends', async () => {
    const file = await opened()
    await file.write(Buffer.from('hello'), 3)
    await file.writeAll([Buffer.from('ab'), Buffer.alloc(0), Buffer.from('cd')], 8)
    expect(file.size()).toBe(12)
    expect((await file.read(0, 100)).toString()).toBe('\0\0\0helloabcd')
    expect((await file.read(100, 5)).length).toBe(0)
    expect(file.readNow(3, 5).toString()).toBe('hello')
    await file.truncate(5)
    await file.sync()
    expect((await readFile(path)).length).toBe(5)
  })

  test('more buffers than one system call takes', async () => {
    const file = await opened()
    const buffers = Array.from({ length: 3000 }, (_, i) => Buffer.from(`${i},`))
    await file.writeAll(buffers, 0)
    expect(await readFile(path)).toEqual(Buffer.concat(buffers))
  })

  test('at once; what a system call leaves over follows', async () => {
    const file = await opened()
    const buffers = Array.from({ length: 20 }, (_, i) => Buffer.from(`${i},`))
    const whole = fs.writevSync
    let cut = 0
    // The kernel writes less than it is asked to when a disk is nearly full, or a limit near.
    for (const most of [1, 5, 23, 1000]) {
      fs.writevSync = (fd, parts, position) => {
        cut++
        const given = Buffer.concat(parts as Buffer[]).subarray(0, most)
        return fs.writeSync(fd, given, 0, null, position)
      }
      syncBuiltinESMExports()
      try {
        file.writeAllNow(buffers, 7)
      } finally {
        fs.writevSync = whole
        syncBuiltinESMExports()
      }
      expect((await readFile(path)).subarray(7)).toEqual(Buffer.concat(buffers))
      await file.truncate(0)
    }
    expect(cut).toBe(4)
    const many = Array.from({ length: 3000 }, (_, i) => Buffer.from(`${i};`))
    file.writeAllNow(many, 0)
    expect(await readFile(path)).toEqual(Buffer.concat(many))
  })

  test('opening for writing does not make a file, and does not empty one', async () => {
    const error = await JournalFile.open(path, { write: true, errors: INDEX_FILE_ERRORS }).catch(
      (e: unknown) => e,
    )
    expect(error).toBeInstanceOf(JlogError)
    expect(error).toMatchObject({ code: 'JLOG_ERR_IDX_OPEN', file: path })
    expect(errnoOf(error)).toBe('ENOENT')
    await writeFile(path, 'kept')
    expect((await opened()).size()).toBe(4)
    await expect(JournalFile.open(path, { create: 0o600, exclusive: true })).rejects.toThrow(
      'EEXIST',
    )
  })

  test('a failure says what, where and with which code', async () => {
    await writeFile(path, 'x')
    const file = await JournalFile.open(path)
    open.push(file)
    await expect(file.write(Buffer.from('y'), 7)).rejects.toMatchObject({
      code: 'JLOG_ERR_FILE_WRITE',
      file: path,
      offset: 7,
    })
    await expect(file.truncate(0)).rejects.toMatchObject({ code: 'JLOG_ERR_FILE_WRITE' })
  })

  test('tells when the file has lost its name', async () => {
    const file = await opened()
    expect(file.stat().links).toBe(1)
    await rm(path)
    expect(file.stat().links).toBe(0)
  })
})

describe('locks', () => {
  test('exclude other descriptors, and other callers of the same one', async () => {
    const one = await opened()
    const two = await opened()
    expect(one.tryLock()).toBe(true)
    expect(one.tryLock()).toBe(false)
    expect(two.tryLock()).toBe(false)
    // Closing another descriptor of the file does not drop the lock, as it would a classic one.
    const three = await opened()
    await three.close()
    expect(two.tryLock()).toBe(false)
    one.unlock()
    expect(two.tryLock()).toBe(true)
    expect(one.tryLock()).toBe(false)
    await two.close()
    expect(one.tryLock()).toBe(true)
  })

  test('are waited for, and given back when the work fails', async () => {
    const one = await opened()
    const two = await opened()
    const order: string[] = []
    await one.lock()
    const waiting = two.withLock(() => {
      order.push('two')
      throw new Error('work failed')
    })
    order.push('one')
    one.unlock()
    await expect(waiting).rejects.toThrow('work failed')
    expect(order).toEqual(['one', 'two'])
    expect(one.tryLock()).toBe(true)
  })

  test('make many callers take turns', async () => {
    const files = await Promise.all([1, 2, 3].map(() => opened()))
    let inside = 0
    let total = 0
    const work = async () => {
      expect(++inside).toBe(1)
      await new Promise(setImmediate)
      inside--
      total++
    }
    await Promise.all(files.flatMap((f) => [1, 2, 3, 4].map(() => f.withLock(work))))
    expect(total).toBe(12)
  })

  test('are given up after a time, with advice', async () => {
    const one = await opened()
    const two = await opened()
    await one.lock()
    await expect(two.lock({ timeout: 20 })).rejects.toMatchObject({
      code: 'JLOG_ERR_LOCK',
      file: path,
      advice: expect.stringContaining('process'),
    })
  })

  test('conflict with the classic locks that libjlog takes, both ways', async (context) => {
    // Python stands for any other program that locks with fcntl(F_SETLKW).
    const program = [
      'import fcntl, sys',
      'f = open(sys.argv[1], "r+b")',
      'fcntl.lockf(f, fcntl.LOCK_EX)',
      'print("locked", flush=True)',
      'sys.stdin.readline()',
      'fcntl.lockf(f, fcntl.LOCK_UN)',
      'print("unlocked", flush=True)',
      'sys.stdin.readline()',
      'fcntl.lockf(f, fcntl.LOCK_EX)',
      'print("locked again", flush=True)',
    ].join('\n')
    const file = await opened()
    const other = spawn('python3', ['-c', program, path], { stdio: ['pipe', 'pipe', 'inherit'] })
    const failed = await Promise.race([once(other, 'spawn').then(() => null), once(other, 'error')])
    if (failed) context.skip('python3 is needed to lock as libjlog does')
    const said = createInterface(other.stdout)[Symbol.asyncIterator]()
    expect((await said.next()).value).toBe('locked')
    expect(file.tryLock()).toBe(false)
    other.stdin.write('\n')
    expect((await said.next()).value).toBe('unlocked')
    expect(file.tryLock()).toBe(true)
    other.stdin.write('\n')
    const again = said.next()
    await expect(
      Promise.race([again.then(() => 'locked'), new Promise((r) => setTimeout(r, 50, 'waits'))]),
    ).resolves.toBe('waits')
    file.unlock()
    expect((await again).value).toBe('locked again')
    expect((await said.next()).done).toBe(true)
  })
})

describe('writeFileDurably', () => {
  test('replaces in one step, or refuses to', async () => {
    await writeFileDurably(path, Buffer.from('one'), { mode: 0o640 })
    await writeFileDurably(path, Buffer.from('two'), { mode: 0o640 })
    expect(await readFile(path, 'utf8')).toBe('two')
    await expect(
      writeFileDurably(path, Buffer.from('three'), { mode: 0o640, exclusive: true }),
    ).rejects.toThrow('EEXIST')
    expect(await readFile(path, 'utf8')).toBe('two')
  })
})

describe('quarantine', () => {
  test('keeps the range, in a file of its own each time', async () => {
    const bytes = Buffer.alloc(3_000_000, 'abcdefg')
    await writeFile(path, bytes)
    const first = await quarantineFileRange(path, 5, 2_500_005)
    const second = await quarantineFileRange(path, 0, 3)
    expect([first.bytes, second.bytes]).toEqual([2_500_000, 3])
    expect([first.file, second.file]).toEqual([`${path}.torn-0`, `${path}.torn-1`])
    expect((await readFile(first.file)).equals(bytes.subarray(5, 2_500_005))).toBe(true)
    expect(await readFile(second.file, 'utf8')).toBe('abc')
    expect((await readFile(path)).equals(bytes)).toBe(true)
  })

  test('leaves nothing half copied', async () => {
    await writeFile(path, 'short')
    await expect(quarantineFileRange(path, 0, 50)).rejects.toMatchObject({
      code: 'JLOG_ERR_FILE_READ',
    })
    await expect(readFile(`${path}.torn-0`)).rejects.toThrow('ENOENT')
  })
})
