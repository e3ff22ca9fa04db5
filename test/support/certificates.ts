/** Certificates of a day, made by openssl where it is installed. */
import { execFile, execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Why there can be no certificates here; null: there can. */
export const noCertificates: string | null = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return null
  } catch {
    return 'openssl is not installed'
  }
})()

export interface CertificateFiles {
  readonly cert: string
  readonly key: string
}

/** @param days negative: it has expired */
export async function makeCertificate(
  dir: string,
  name: string,
  {
    issuer,
    days = 1,
    usage = 'serverAuth',
  }: {
    issuer?: CertificateFiles
    days?: number
    usage?: 'serverAuth' | 'clientAuth' | 'authority'
  } = {},
): Promise<CertificateFiles> {
  const [cert, key, csr] = ['pem', 'key', 'csr'].map((end) => join(dir, `${name}.${end}`)) as [
    string,
    string,
    string,
  ]
  const newKey = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    key,
  ]
  const extensions =
    usage === 'authority'
      ? 'basicConstraints=critical,CA:TRUE'
      : `subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=${usage}`
  const extensionFile = join(dir, `${name}.ext`)
  await writeFile(extensionFile, `${extensions}\n`)
  await run('openssl', ['req', '-new', ...newKey, '-subj', `/CN=${name}`, '-out', csr])
  const signer = issuer
    ? ['-CA', issuer.cert, '-CAkey', issuer.key, '-CAcreateserial']
    : ['-signkey', key]
  await run('openssl', [
    'x509',
    '-req',
    '-in',
    csr,
    ...signer,
    '-out',
    cert,
    '-extfile',
    extensionFile,
    '-days',
    String(days),
  ])
  return { cert, key }
}
