/** Which format a source has, told by what is there; and the source opened. */
import { type FileHandle, lstat, open, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { invalid, SpoolError } from '../errors.js'
import { EmlSource, emlFiles, isEml } from './eml.js'
import { entriesOf } from './files.js'
import { HarakaSource, parseQueueName } from './haraka.js'
import { MaildirSource } from './maildir.js'
import { MboxSource } from './mbox.js'
import { IMPORT_FORMATS, type ImportFormat, type Source } from './source.js'
import { SpoolSource } from './spool.js'

/**
 * Throws SPOOL_ERR_OPEN when there is nothing to read, SPOOL_ERR_INVALID when its format cannot be told or is
 * not what it was said to be, and what opening a spool throws.
 */
export async function openSource(
  path: string,
  { format, remove }: { format: ImportFormat | undefined; remove: boolean },
): Promise<Source> {
  if (typeof path !== 'string' || path === '') throw invalid('path', 'no path')
  if (format !== undefined && !IMPORT_FORMATS.includes(format)) {
    throw invalid('format', `not one of ${IMPORT_FORMATS.join(', ')}`)
  }
  let base: string
  let isFile: boolean
  try {
    base = await realpath(path)
    isFile = (await lstat(base)).isFile()
  } catch (cause) {
    throw new SpoolError('SPOOL_ERR_OPEN', 'there is no such source', { file: path, cause })
  }
  const told = format ?? (isFile ? await formatOfFile(base) : await formatOfDirectory(base))
  if (isFile !== FILES.has(told) && !(isFile && told === 'eml')) {
    throw invalid('format', `${told} is ${FILES.has(told) ? 'a file' : 'a directory'}`)
  }
  switch (told) {
    case 'mbox':
    case 'mboxo':
      return new MboxSource(base, told)
    case 'eml':
      return new EmlSource(base, isFile)
    case 'maildir':
      return maildir(base)
    case 'haraka':
      return new HarakaSource(base)
    case 'spool':
      return SpoolSource.open(await spoolIn(base), { remove })
  }
}

const FILES: ReadonlySet<ImportFormat> = new Set(['mbox', 'mboxo'])

async function formatOfFile(file: string): Promise<ImportFormat> {
  if (isEml(file)) return 'eml'
  let handle: FileHandle
  try {
    handle = await open(file, 'r')
  } catch (cause) {
    throw new SpoolError('SPOOL_ERR_OPEN', 'the source cannot be read', { file, cause })
  }
  try {
    const head = Buffer.alloc(5)
    const { bytesRead } = await handle.read(head, 0, 5, 0)
    if (bytesRead === 0 || head.toString('latin1') === 'From ') return 'mbox'
  } finally {
    await handle.close()
  }
  throw unknown(file)
}

async function formatOfDirectory(directory: string): Promise<ImportFormat> {
  if (await isThere(join(directory, 'data.mdb'))) return 'spool'
  if (await isThere(join(directory, 'spool', 'data.mdb'))) return 'spool'
  if ((await isThere(join(directory, 'new'))) && (await isThere(join(directory, 'cur')))) {
    return 'maildir'
  }
  for await (const { name } of entriesOf(directory)) {
    if (parseQueueName(name) !== undefined) return 'haraka'
  }
  for await (const _ of emlFiles(directory)) return 'eml'
  throw unknown(directory)
}

/** A spool's directory, or that of a data directory. No symbolic link is followed. */
async function spoolIn(directory: string): Promise<string> {
  const inner = join(directory, 'spool')
  const isSpool = await isThere(join(directory, 'data.mdb'))
  const spool = !isSpool && (await isThere(join(inner, 'data.mdb'))) ? inner : directory
  const file = join(spool, 'data.mdb')
  if ((await realpath(file).catch(() => file)) === file) return spool
  throw new SpoolError('SPOOL_ERR_OPEN', 'the spool is a symbolic link', { file })
}

async function maildir(base: string): Promise<Source> {
  for (const folder of ['new', 'cur']) {
    const stats = await lstat(join(base, folder)).catch(() => undefined)
    if (stats?.isDirectory() !== true) throw invalid('format', `a maildir has a folder ${folder}`)
  }
  return new MaildirSource(base)
}

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

function unknown(file: string): SpoolError {
  return new SpoolError('SPOOL_ERR_INVALID', 'format: what is there cannot be told', {
    field: 'format',
    file,
    advice: `name it: one of ${IMPORT_FORMATS.join(', ')}`,
  })
}
