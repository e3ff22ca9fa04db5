/** What `jlogctl` does with subscribers, and how it tells. Names are padded by their bytes, as printf does. */
import {
  addSubscriber,
  formatLogId,
  getCheckpoint,
  type LogId,
  lastId,
  listSubscribers,
  openReader,
  removeSubscriber,
  setCheckpoint,
} from '../../jlog/index.js'
import { bytesOfArgument } from '../arguments.js'
import { Failed, type Output, reasonOf } from './output.js'

const NAME_COLUMN_BYTES = 32

export async function add(dir: string, name: string, at: LogId | null, io: Output): Promise<void> {
  const id = await orFail(io, `Could not add subscriber '${name}'`, () =>
    addSubscriber(dir, bytesOfArgument(name), at ?? 'begin'),
  )
  await io.out(bytesOfArgument(`Added subscriber '${name}' -> ${formatLogId(id)}\n`))
}

export async function update(
  dir: string,
  name: string,
  to: LogId | null,
  io: Output,
): Promise<void> {
  const [before, after] = await orFail(
    io,
    `Could not update subscriber '${name}'`,
    async (): Promise<[LogId, LogId]> => {
      const start = await getCheckpoint(dir, bytesOfArgument(name))
      if (to !== null) await setCheckpoint(dir, bytesOfArgument(name), to)
      return [start, await getCheckpoint(dir, bytesOfArgument(name))]
    },
  )
  await io.out(
    bytesOfArgument(
      `Updated subscriber '${name}' ${formatLogId(before)} -> ${formatLogId(after)}\n`,
    ),
  )
}

export async function erase(dir: string, name: string, io: Output): Promise<void> {
  await orFail(io, `Could not erase subscriber '${name}'`, () =>
    removeSubscriber(dir, bytesOfArgument(name)),
  )
  await io.out(bytesOfArgument(`Erased subscriber '${name}'\n`))
}

export async function list(dir: string, io: Output): Promise<void> {
  for (const { nameBytes, checkpoint } of await listSubscribers(dir)) {
    const padding = ' '.repeat(Math.max(0, NAME_COLUMN_BYTES - nameBytes.length))
    await io.out(
      Buffer.concat([
        Buffer.from(`\t${padding}`),
        nameBytes,
        Buffer.from(` @ ${formatLogId(checkpoint)}\n`),
      ]),
    )
  }
}

/** As a reader: like every reading it indexes the segment, and steps over segments that are finished and read. */
export async function showPerspective(dir: string, name: string, io: Output): Promise<void> {
  await orFail(io, `Could not read as '${name}'`, async () => {
    const reader = await openReader(dir, bytesOfArgument(name))
    try {
      const checkpoint = await reader.position()
      const last = await lastId(dir)
      if (last.marker > 0) await reader.read(last)
      const interval = await reader.readInterval()
      const from = formatLogId(interval?.first ?? checkpoint)
      const to = formatLogId(interval?.last ?? checkpoint)
      await io.out(
        bytesOfArgument(
          `${RULE}\n  Perspective of the '${name}' subscriber\n` +
            `    current checkpoint: ${formatLogId(checkpoint)}\n` +
            `Last write: ${formatLogId(last)}\n` +
            `\t     next interval: [${from}, ${to}]\n${RULE}\n\n`,
        ),
      )
    } finally {
      await reader.close()
    }
  })
}

const RULE = '-'.repeat(20)

async function orFail<T>(io: Output, what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    await io.err(`${what}: ${reasonOf(error)}\n`)
    throw new Failed()
  }
}
