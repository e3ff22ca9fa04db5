// One owner a spool: a second process is refused with the owner's pid, and gets it when that is gone.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, test } from 'vitest'
import { openSpool } from '../../spool/index.js'
import { bodyOf, message, temporaryDirectory, temporarySpool } from './support.js'

const children: ChildProcess[] = []

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
})

/** A process that owns the spool, with the id of a message it has stored. */
async function owner(path: string): Promise<{ child: ChildProcess; id: string }> {
  const script = join(import.meta.dirname, 'child-owner.mjs')
  const child = spawn(process.execPath, [script, path], { stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  for await (const line of createInterface(child.stdout!)) return { child, id: line }
  throw new Error('the owner did not start')
}

describe('an owned spool', () => {
  test('refuses a second owner with the pid, and can be read beside it', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const { child, id } = await owner(path)
    await expect(openSpool({ path })).rejects.toMatchObject({
      code: 'SPOOL_ERR_OWNED',
      pid: child.pid,
      message: expect.stringContaining(`process ${child.pid}`),
    })
    const reader = await temporarySpool({ path, readOnly: true })
    expect((await bodyOf(reader, id)).toString()).toBe('the owner’s')
    child.kill('SIGKILL')
    await once(child, 'exit')
    await reader.close()
    const spool = await temporarySpool({ path })
    expect(await readFile(join(path, 'owner'), 'utf8')).toBe(`${process.pid}\n`)
    expect((await bodyOf(spool, id)).toString()).toBe('the owner’s')
  })

  test('refuses the same process too, and a refusal disturbs nothing', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    await expect(openSpool({ path })).rejects.toMatchObject({
      code: 'SPOOL_ERR_OWNED',
      pid: process.pid,
    })
    await spool.swapOut(message('x'))
    await spool.close()
    await (await openSpool({ path })).close()
  })
})
