/** `jlogctl create`, `alter` and `meta`: a journal's settings. What fails here has always exited 255. */
import {
  alterJournal,
  COMPRESSED_MAGIC,
  createJournal,
  describePreCommit,
  ensurePreCommit,
  JlogError,
  openWriter,
  PLAIN_MAGIC,
  readSettings,
  SAFETY,
} from '../../jlog/index.js'
import { getopt, UsageError } from './getopt.js'
import { type Output, reasonOf } from './output.js'

const SAFETY_NAMES = {
  [SAFETY.unsafe]: 'unsafe',
  [SAFETY.almostSafe]: 'metasafe',
  [SAFETY.safe]: 'safe',
}

interface Settings {
  dir: string | null
  segmentSize?: number
  preCommit?: number
  compression?: boolean
  verbose: boolean
}

export async function create(argv: readonly string[], io: Output): Promise<number> {
  const { dir, segmentSize, preCommit, compression } = parse(argv)
  if (dir === null) throw new UsageError('bad options: create needs -j DIR')
  try {
    await createJournal(dir, {
      ...(segmentSize === undefined ? {} : { unitLimit: segmentSize }),
      ...(preCommit === undefined ? {} : { preCommit }),
      ...(compression ? { compression: 'lz4' } : {}),
    })
    // It comes with its first segment and its pre-commit file.
    await (await openWriter(dir)).close()
    return 0
  } catch (error) {
    await io.err(`Failed to initialize jlog '${dir}': ${reasonOf(error)}\n`)
    return 255
  }
}

export async function alter(argv: readonly string[], io: Output): Promise<number> {
  const { dir: given, segmentSize, preCommit, compression, verbose } = parse(argv)
  if (segmentSize === undefined && preCommit === undefined && compression === undefined) {
    throw new UsageError('bad options: nothing to alter')
  }
  const dir = given ?? '.'
  try {
    await alterJournal(dir, {
      ...(segmentSize === undefined ? {} : { unitLimit: segmentSize }),
      ...(preCommit === undefined ? {} : { preCommit }),
    })
    if (compression !== undefined && verbose) {
      await io.err('Compression is fixed when a journal is made: it stays as it is.\n')
    }
    return 0
  } catch (error) {
    await io.err(`Failed to alter jlog '${dir}': ${reasonOf(error)}\n`)
    return 255
  }
}

function parse(argv: readonly string[]): Settings {
  const { options, operands } = getopt(argv, 'c:s:p:j:vm')
  const settings: Settings = { dir: null, verbose: false }
  for (const [letter, value] of options) {
    if (letter === 'j') settings.dir = value
    else if (letter === 'v') settings.verbose = true
    else if (letter === 's') settings.segmentSize = bytes(letter, value)
    else if (letter === 'p') settings.preCommit = bytes(letter, value)
    else if (letter === 'c' && (value === 'on' || value === 'off')) {
      settings.compression = value === 'on'
    } else throw new UsageError('')
  }
  if (operands.length > 0) throw new UsageError(`extraneous arguments: ${operands[0]}`)
  return settings
}

function bytes(letter: string, value: string): number {
  if (/^\d{1,10}$/.test(value)) return Number(value)
  throw new UsageError(`-${letter} takes a number of bytes, not '${value}'`)
}

const SHOWN = ['m', 'l', 'c', 'f', 'p', 's'] as const
type Shown = (typeof SHOWN)[number]
const LABELS = {
  m: 'magic',
  l: 'storagelog',
  c: 'compression',
  f: 'safety',
  p: 'precommit',
  s: 'segmentsize',
} as const

/** Moves nothing, not even what waits in the pre-commit buffer; makes the file of that buffer if there is none, as every writer does. */
export async function meta(argv: readonly string[], io: Output): Promise<number> {
  const { options, operands } = getopt(argv, 'cfj:lmpsv')
  let dir = '.'
  let only: Shown | undefined
  for (const [letter, value] of options) {
    if (letter === 'j') dir = value
    else if (letter !== 'v') {
      if (only !== undefined) throw new UsageError('')
      only = letter as Shown
    }
  }
  let facts: Record<Shown, string>
  try {
    facts = await readFacts(dir)
  } catch (error) {
    await io.err(`Failed to open jlog '${dir}': ${reasonOf(error)}\n`)
    return 255
  }
  if (operands.length > 0) throw new UsageError(`extraneous arguments: ${operands[0]}`)
  if (only !== undefined) await io.out(`${facts[only]}\n`)
  else for (const key of SHOWN) await io.out(`${LABELS[key].padEnd(14)} ${facts[key]}\n`)
  return 0
}

async function readFacts(dir: string): Promise<Record<Shown, string>> {
  const { metastore } = await readSettings(dir)
  if (metastore === null) {
    throw new JlogError('JLOG_ERR_META_OPEN', 'the metastore is missing or damaged', {
      file: dir,
      advice: 'repair the journal',
    })
  }
  const { hdrMagic, storageLog, safety, unitLimit } = metastore
  // As libjlog's: with LZ4 its answer is `unknown`.
  const compressed = hdrMagic === COMPRESSED_MAGIC ? 'on' : 'unknown'
  const preCommit = (await describePreCommit(dir))?.size ?? 0
  // Not where nothing may be written: it is not needed to answer.
  await ensurePreCommit(dir).catch(() => {})
  return {
    m: hdrMagic.toString(16).padStart(8, '0'),
    l: storageLog.toString(16).padStart(8, '0'),
    c: hdrMagic === PLAIN_MAGIC ? 'off' : compressed,
    f: SAFETY_NAMES[safety],
    p: String(preCommit),
    s: String(unitLimit),
  }
}
