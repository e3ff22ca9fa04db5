// The service on a disk of its own: its power is cut, and it is filled to the last byte.
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { BobbinClient, ClientError } from '../../api/index.js'
import {
  type FileSystem,
  LoopMount,
  loopMountProblem,
  powerCutProblem,
} from '../faults/loop-mount.js'
import { Ledger } from '../support/ledger.js'
import { startService, temporaryDirectory } from '../support/service.js'

const CUTS = Number(process.env.TEST_POWER_CUTS ?? 8)
const MiB = 1024 * 1024

describe.each(['ext4', 'xfs'] satisfies FileSystem[])('on %s', (type) => {
  it(`keeps every acknowledged message, logged once, over ${CUTS} power cuts under load`, {
    timeout: 600_000,
  }, async ({ skip }) => {
    const directory = await temporaryDirectory()
    const problem = await powerCutProblem(type, directory)
    if (problem !== null) skip(`power cuts on ${type}: ${problem}`)
    const disk = await LoopMount.make({
      type,
      directory: join(directory, 'disk'),
      bytes: 1024 * MiB,
    })
    try {
      const data = join(disk.path, 'data')
      const ledger = await Ledger.open()
      for (let cut = 0; cut < CUTS; cut++) {
        const service = await startService(data)
        const load = ledger.injectUntilGone(service.url, 16)
        await delay(100 + Math.random() * 1000)
        await disk.cutPower({ flushLog: cut % 2 === 1 })
        await service.kill('SIGKILL')
        await load
        await disk.remount()
      }
      const last = await startService(data)
      expect(await last.kill('SIGTERM')).toEqual({ code: 0, signal: null })
      expect(ledger.acknowledged.size).toBeGreaterThan(CUTS)
      await ledger.expectNothingLost(data)
    } finally {
      await disk.destroy()
    }
  })

  it('refuses when the disk is full, still serves reads, and heals when there is room', {
    timeout: 300_000,
  }, async ({ skip }) => {
    const directory = await temporaryDirectory()
    const problem = await loopMountProblem(type, directory)
    if (problem !== null) skip(`full disks on ${type}: ${problem}`)
    const disk = await LoopMount.make({
      type,
      directory: join(directory, 'disk'),
      bytes: 320 * MiB,
    })
    try {
      const data = join(disk.path, 'data')
      const service = await startService(data, { BOBBIN_SPOOL_MIN_FREE: '0' })
      const client = new BobbinClient(service.url, { retry: false })
      const ledger = await Ledger.open()
      const envelope = { mailfrom: '', rcptto: ['rcpt@example.net'] }
      const inject = async (size: number) => {
        const { ids, sha256 } = await client.inject({ ...envelope, body: Buffer.alloc(size, 'x') })
        for (const id of ids) ledger.acknowledged.set(id, sha256)
      }
      await inject(1000)
      const ballast = join(disk.path, 'ballast')
      await writeFile(ballast, Buffer.alloc(200 * MiB, 1))
      let refusal: unknown
      for (let i = 0; refusal === undefined && i < 5000; i++) {
        await inject(i % 2 === 0 ? 100_000 : 900_000).catch((error: unknown) => {
          refusal = error
        })
      }
      expect(refusal).toBeInstanceOf(ClientError)
      expect(refusal).toMatchObject({ status: 507, code: 'SPOOL_ERR_FULL' })
      const [known] = ledger.acknowledged.keys()
      expect((await client.meta(known!)).size).toBe(1000)

      await rm(ballast)
      await expect
        .poll(
          () =>
            inject(1000).then(
              () => 'healed',
              () => 'full',
            ),
          { timeout: 60_000, interval: 200 },
        )
        .toBe('healed')
      await expect
        .poll(async () => (await client.spool()).outbox.records, { timeout: 60_000 })
        .toBe(0)
      expect(await service.kill('SIGTERM')).toEqual({ code: 0, signal: null })
      await ledger.expectNothingLost(data)
    } finally {
      await disk.destroy()
    }
  })
})
