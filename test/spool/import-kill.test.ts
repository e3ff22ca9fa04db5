// An import is killed at random moments, again and again: in the end each message of the source is here once,
// with one log record, whether the source is kept or emptied.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { checkSpool, type ImportReport, openSpool } from '../../spool/index.js'
import { contentsOf, harakaFile, mail, results, writeAll } from './import-support.js'
import { bytes, message, temporaryDirectory, temporarySpool } from './support.js'

const KILLS = Number(process.env.TEST_KILLS ?? 2)
const COUNT = 150
const MESSAGES = Array.from({ length: COUNT }, (_, i) => `r${i}@example.com`)

/** Bodies of all sizes, some over the threshold. */
function bodyOf(i: number): string {
  const size = i % 25 === 0 ? 400_000 : (i * 997) % 20_000
  return bytes(size, i).toString('base64')
}

interface Made {
  readonly path: string
  /** Content by recipient. */
  readonly expected: Record<string, string>
  /** Original ids of messages that cannot be imported. */
  readonly bad: number
  /** What is left when all that could be imported was removed. */
  left(): Promise<number>
}

const SOURCES: Record<string, (directory: string) => Promise<Made>> = {
  async maildir(directory) {
    const path = join(directory, 'Maildir')
    const files = MESSAGES.map((to, i) => [
      i % 2 === 0 ? `new/${i}.host` : `cur/${i}.host:2,S`,
      mail(to, bodyOf(i)),
    ])
    await writeAll(path, { ...Object.fromEntries(files), 'new/bad.host': 'no envelope' })
    return {
      path,
      expected: Object.fromEntries(MESSAGES.map((to, i) => [to, mail(to, bodyOf(i))])),
      bad: 1,
      left: async () => (await readdir(path, { recursive: true })).length - 2,
    }
  },
  async mbox(directory) {
    const path = join(directory, 'box')
    const box = MESSAGES.map((to, i) => `From x@y.z now\n${mail(to, `${bodyOf(i)}\n`)}\n`)
    await writeFile(path, box.join(''))
    return {
      path,
      expected: Object.fromEntries(MESSAGES.map((to, i) => [to, mail(to, `${bodyOf(i)}\n`)])),
      bad: 0,
      left: async () => (await readFile(path)).length,
    }
  },
  async haraka(directory) {
    const path = join(directory, 'queue')
    const text = (i: number) => `Subject: x\r\n\r\n${bodyOf(i)}`
    const files = MESSAGES.map((to, i) => [
      `170000000000${i % 10}_0_0_1_uid${String(i).padStart(3, '0')}_1_host`,
      harakaFile({ to: [to] }, text(i)),
    ])
    await writeAll(path, { ...Object.fromEntries(files), 'error.1': 'bad' })
    return {
      path,
      expected: Object.fromEntries(MESSAGES.map((to, i) => [to, text(i)])),
      bad: 1,
      left: async () => (await readdir(path)).length,
    }
  },
  async spool(directory) {
    const path = join(directory, 'source')
    const spool = await openSpool({ path })
    const expected: Record<string, string> = {}
    for (let i = 0; i < COUNT; i += 3) {
      const rcptto = MESSAGES.slice(i, i + 3)
      await spool.swapOut(message(bodyOf(i), { rcptto }))
      for (const to of rcptto) expected[to] = bodyOf(i)
    }
    await spool.close()
    const left = async () => (await checkSpool(path)).messages
    return { path, expected, bad: 0, left }
  },
}

/** Kills it `after` so many milliseconds of importing; its report when it had finished before. */
async function importAndKill(args: string[], after: number): Promise<ImportReport | undefined> {
  const script = join(import.meta.dirname, 'child-import.mjs')
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'close')
  let said = ''
  let isImporting = false
  child.stdout.on('data', (text: Buffer) => {
    said += text.toString()
    if (isImporting) return
    isImporting = true
    void delay(after).then(() => child.kill('SIGKILL'))
  })
  await ended
  const last = said.split('\n').find((line) => line.startsWith('{"report"'))
  return last === undefined ? undefined : (JSON.parse(last) as { report: ImportReport }).report
}

/** In CI each source once; all of it when more kills are asked for. */
const KEPT = new Set(['mbox', 'haraka'])

for (const [name, make] of Object.entries(SOURCES)) {
  const both = process.env.TEST_KILLS !== undefined
  for (const remove of both ? [false, true] : [!KEPT.has(name)]) {
    const title = `${name}, ${remove ? 'emptied' : 'kept'}: each message once, over ${KILLS} kills`
    test(title, { timeout: 30_000 + KILLS * 5_000 }, async () => {
      const options = JSON.stringify({ suppressTrace: true, remove, concurrency: 4 })
      /** Null when it was faster than who was to kill it. */
      const overKills = async () => {
        const directory = await temporaryDirectory()
        const made = await make(directory)
        const before = await made.left()
        const target = join(directory, 'target')
        for (let kills = 0; ; kills++) {
          const after = Math.random() * (kills < KILLS ? 120 : 60_000)
          const report = await importAndKill([target, made.path, options], after)
          if (report !== undefined) return kills === 0 ? null : { ...made, before, target, report }
        }
      }
      let done = await overKills()
      while (done === null) done = await overKills()
      const { path, expected, bad, left, before, target, report } = done
      expect(report).toMatchObject({ failed: bad })
      const spool = await temporarySpool({ path: target })
      expect(await contentsOf(spool)).toEqual(expected)
      const found = Object.values(results(spool))
      expect(found.filter((result) => result === 1)).toHaveLength(COUNT)
      expect(found).toHaveLength(COUNT + bad)
      expect(await left()).toBe(remove ? bad : before)
      const again = await spool.importFrom(path, { suppressTrace: true })
      expect(again).toMatchObject({ imported: 0, already: remove ? 0 : COUNT, failed: bad })
      await spool.close()
      expect(await checkSpool(target)).toMatchObject({ problems: [] })
    })
  }
}
