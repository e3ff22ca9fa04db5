// kill -9 while contents are shared, replaced, dropped and copied: counts right, content as acknowledged.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { checkSpool, openSpool } from '../../spool/index.js'
import { bodyOf, codeOf, sha256, temporaryDirectory } from './support.js'

const KILLS = Number(process.env.TEST_KILLS ?? 2)
const SCRIPT = join(import.meta.dirname, 'child-contents.mjs')

test(`${KILLS} kills leave every count right and every content as acknowledged`, {
  timeout: 30_000 + KILLS * 5_000,
}, async () => {
  const path = join(await temporaryDirectory(), 'spool')
  /** 'dropped', or 'any' while a change is on its way. */
  const contents = new Map<string, string>()
  for (let kill = 0; kill < KILLS; kill++) {
    const child = spawn(process.execPath, [SCRIPT, path], { stdio: ['ignore', 'pipe', 'inherit'] })
    const exited = once(child, 'exit')
    const until = 500 + Math.floor(Math.random() * 1500)
    let lines = 0
    for await (const line of createInterface(child.stdout)) {
      if (!line.endsWith('}')) continue // cut off by the kill
      const { id, sha256 } = JSON.parse(line) as { id: string; sha256: string }
      contents.set(id, sha256)
      if (++lines === until) child.kill('SIGKILL')
    }
    expect((await exited)[1]).toBe('SIGKILL')

    const spool = await openSpool({ path })
    let compared = 0
    for (const [id, content] of contents) {
      if (content === 'any') continue
      if (content === 'dropped') expect(await codeOf(spool.swapIn(id))).toBe('SPOOL_ERR_NOT_FOUND')
      else expect(sha256(await bodyOf(spool, id))).toBe(content)
      expect((await spool.meta(id)).sha256).toBe(content === 'dropped' ? null : content)
      compared++
    }
    expect(compared).toBeGreaterThan(20)
    await spool.close()
    // Opened once more for what the sweep at opening left to do.
    await (await openSpool({ path })).close()
    expect(await checkSpool(path)).toMatchObject({ problems: [] })
  }
})
