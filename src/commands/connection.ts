/** The service that `--url` names, as a command reaches it. */
import { readFileSync } from 'node:fs'
import { BobbinClient, type ClientOptions } from '../../api/client/index.js'
import { UsageError } from '../program.js'

/** For somebody who waits at a terminal: a service that is away is told soon. */
const IMPATIENT = { attempts: 3 }

/**
 * With the token of `BOBBIN_TOKEN`, or of the file that `BOBBIN_TOKEN_FILE` names; not of the command line, which everybody on
 * the machine can read.
 * @throws UsageError when the URL or the file is no such thing
 */
export function connect(url: string, options: ClientOptions = {}): BobbinClient {
  try {
    return new BobbinClient(url, { retry: IMPATIENT, token: token(), ...options })
  } catch (error) {
    throw error instanceof TypeError ? new UsageError(`--url ${url}: ${error.message}`) : error
  }
}

function token(): string | undefined {
  const { BOBBIN_TOKEN: given, BOBBIN_TOKEN_FILE: file } = process.env
  if (given || !file) return given || undefined
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new UsageError(`BOBBIN_TOKEN_FILE: ${(error as Error).message}`)
  }
}
