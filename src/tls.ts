/**
 * Certificate and key of the service, from files, and read again on demand. Promises that what is served is whole: files that do
 * not parse, or do not belong together, are refused before they take the place of others.
 */
import { X509Certificate } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import type { ServerOptions } from 'node:https'
import { createSecureContext } from 'node:tls'
import type { Config } from './config.js'
import { ConfigError } from './config-error.js'

type TlsSettings = Config['security']['tls']

export interface TlsIdentity {
  /** For a server, and for `setSecureContext` of one that runs. */
  readonly options: ServerOptions
  readonly subject: string
  readonly validTo: Date
  /** What is not right, but can be served. */
  readonly warnings: readonly string[]
}

/**
 * @returns null when no TLS is configured
 * @throws ConfigError
 */
export async function loadTls(settings: TlsSettings): Promise<TlsIdentity | null> {
  const { cert, key, client_ca: clientCa, min_version: minVersion } = settings
  if (cert === '' && key === '') {
    if (clientCa !== '')
      throw new ConfigError('security.tls.client_ca goes with security.tls.cert and key')
    return null
  }
  if (cert === '' || key === '')
    throw new ConfigError('security.tls.cert and security.tls.key go together')
  const options: ServerOptions = {
    cert: await read('security.tls.cert', cert),
    key: await read('security.tls.key', key),
    minVersion,
    ...(clientCa === ''
      ? {}
      : {
          ca: await read('security.tls.client_ca', clientCa),
          requestCert: true,
          rejectUnauthorized: true,
        }),
  }
  const certificate = parse(cert, options.cert as Buffer)
  if (clientCa !== '') parse(clientCa, options.ca as Buffer)
  try {
    createSecureContext(options)
  } catch (cause) {
    throw new ConfigError(`${cert} and ${key}: ${(cause as Error).message}`, { cause })
  }
  return {
    options,
    subject: certificate.subject.replaceAll('\n', ', '),
    validTo: new Date(certificate.validTo),
    warnings: [...(await keyWarnings(key)), ...validityWarnings(certificate)],
  }
}

function parse(file: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (cause) {
    throw new ConfigError(`${file}: not a certificate in PEM: ${(cause as Error).message}`, {
      cause,
    })
  }
}

/** @throws ConfigError when a certificate is not to take the place of one that is served */
export function checkSuccessor({ validTo, subject }: TlsIdentity): void {
  if (validTo.getTime() < Date.now())
    throw new ConfigError(`the certificate of ${subject} has expired on ${validTo.toISOString()}`)
}

async function read(setting: string, file: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (cause) {
    throw new ConfigError(`${setting}: ${(cause as Error).message}`, { cause })
  }
}

async function keyWarnings(file: string): Promise<string[]> {
  const { mode } = await stat(file)
  return (mode & 0o007) === 0 ? [] : [`${file}: everybody on this machine may read the key`]
}

function validityWarnings({ validFrom, validTo }: X509Certificate): string[] {
  if (new Date(validTo).getTime() < Date.now()) return [`the certificate has expired on ${validTo}`]
  if (new Date(validFrom).getTime() > Date.now())
    return [`the certificate is valid from ${validFrom} on`]
  return []
}
