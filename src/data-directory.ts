/** Where the parts of a data directory lie. */
import { join } from 'node:path'

export function spoolPath(data: string): string {
  return join(data, 'spool')
}

export function journalsPath(data: string): string {
  return join(data, 'journals')
}
