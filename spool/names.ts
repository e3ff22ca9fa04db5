/**
 * Other names of a message: its spool name, which sorts as the id does and may be a file's name, and the
 * thread id `[spool name]::[node name]:[suffix]`, which tells it apart among nodes.
 */
import { invalid } from './errors.js'
import { formatId, parseId } from './message-id.js'

/** The id's 32 hexadecimal digits. Throws SPOOL_ERR_INVALID for what is no id. */
export function midToSpoolName(id: string): string {
  return parseId(id).toString('hex')
}

/** Throws SPOOL_ERR_INVALID. */
export function spoolNameToMid(name: string): string {
  if (typeof name !== 'string' || !/^[0-9a-f]{32}$/i.test(name)) {
    throw invalid('name', 'not a spool name (32 hexadecimal digits)')
  }
  return formatId(Buffer.from(name, 'hex'))
}

/** Throws SPOOL_ERR_INVALID. */
export function threadId(id: string, nodeName: string, suffix = ''): string {
  return `${midToSpoolName(id)}::${nodeName}:${suffix}`
}
