// The client's types: those of the service's schemas, and of use to a program that has nothing but the package.
import { execFile } from 'node:child_process'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Static } from 'typebox'
import { expect, expectTypeOf, it } from 'vitest'
import type * as client from '../../../api/client/index.js'
import type { DisposedJson, DispositionJson, EventLine } from '../../../api/event-json.js'
import type { Problem } from '../../../api/problem.js'
import type * as schemas from '../../../api/schemas.js'
import type { RecordJson } from '../../../jlog/index.js'
import { temporaryDirectory } from '../../support/service.js'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

/** What may be left out may also be given as undefined; apart from that the types are to be the same. */
type Plain<T> = T extends readonly (infer Item)[]
  ? Plain<Item>[]
  : T extends object
    ? { [Key in keyof T]: Plain<Exclude<T[Key], undefined>> }
    : T

// Nothing happens here at run time: the type check of the project is the test.
it('are those of the schemas', () => {
  expectTypeOf<client.MetaJson>().toEqualTypeOf<Static<typeof schemas.Meta>>()
  expectTypeOf<client.InjectedJson>().toEqualTypeOf<Static<typeof schemas.Injected>>()
  expectTypeOf<client.SpoolStateJson>().toEqualTypeOf<Static<typeof schemas.SpoolState>>()
  expectTypeOf<client.QuarantinedJson>().toEqualTypeOf<Static<typeof schemas.Quarantined>>()
  expectTypeOf<client.JournalJson>().toEqualTypeOf<Static<typeof schemas.Journal>>()
  expectTypeOf<client.SubscriberJson>().toEqualTypeOf<Static<typeof schemas.Subscriber>>()
  expectTypeOf<client.MimeStructureJson>().toEqualTypeOf<Static<typeof schemas.MimeStructureJson>>()
  expectTypeOf<client.DisposedJson>().toEqualTypeOf<Static<typeof DisposedJson>>()
  expectTypeOf<client.ProblemJson>().toEqualTypeOf<Problem>()
  expectTypeOf<client.RecordJson>().toEqualTypeOf<RecordJson>()
  expectTypeOf<Omit<client.JobJson, 'result'>>().toEqualTypeOf<
    Omit<Static<typeof schemas.JobSchema>, 'result'>
  >()
  expectTypeOf<Plain<client.MetaPatchJson>>().toEqualTypeOf<
    Plain<Static<typeof schemas.MetaPatchJson>>
  >()
  expectTypeOf<Plain<client.JournalSettingsJson>>().toEqualTypeOf<
    Plain<Static<typeof schemas.JournalSettings>>
  >()
  expectTypeOf<Plain<client.DispositionJson>>().toEqualTypeOf<
    Plain<Static<typeof DispositionJson>>
  >()
  expectTypeOf<Plain<client.EventJson>>().toEqualTypeOf<Plain<EventLine>>()
  type Fields = Omit<schemas.InjectionJson, 'content' | 'content_base64'>
  type Given = Omit<client.Injection, 'body'> & { refs?: string }
  expectTypeOf<keyof Given>().toEqualTypeOf<keyof Fields>()
})

const CONSUMER = `
import { BobbinClient, ClientError, type Injection, type LogRecord, type MetaJson } from 'bobbin/client'

const client = new BobbinClient('http://127.0.0.1:8025', { token: 'x', retry: { attempts: 3 } })
const injection: Injection = { mailfrom: '', rcptto: ['b@example.net'], body: new Uint8Array() }

export async function use(signal: AbortSignal): Promise<string[]> {
  const { ids } = await client.inject(injection, { signal })
  const metas: MetaJson[] = []
  for await (const meta of client.list({ domain: 'example.net' })) metas.push(meta)
  for await (const { id, lease, rcptto } of client.claims({ limit: 1 })) {
    for await (const bytes of await client.content(id)) console.log(rcptto, bytes.length)
    const { outcome } = await client.report(id, { type: 'delivery', lease })
    console.log(outcome)
  }
  await client.work({ concurrency: 2, signal }, async ({ id }) => client.remove(id))
  for await (const record of client.records('mainlog', 'me')) take(record)
  try {
    // @ts-expect-error there is no such type of report
    await client.report(ids[0] ?? '', { type: 'delivered' })
    // @ts-expect-error a recipient is a list
    await client.inject({ mailfrom: '', rcptto: 'b@example.net', body: new Uint8Array() })
  } catch (error) {
    if (error instanceof ClientError && error.temporary) console.log(error.code, error.retryAfter)
  }
  return ids
}

function take(record: LogRecord): void {
  console.log(record.id, record.json<{ type: string }>().type)
}
`

it('serve a program outside of the project', async () => {
  const directory = await temporaryDirectory()
  const modules = join(directory, 'node_modules')
  await mkdir(join(modules, '@types'), { recursive: true })
  await symlink(ROOT, join(modules, 'bobbin'))
  await symlink(join(ROOT, 'node_modules/@types/node'), join(modules, '@types/node'))
  const compilerOptions = {
    ...{ strict: true, noEmit: true, skipLibCheck: false, exactOptionalPropertyTypes: true },
    ...{ target: 'ES2023', lib: ['ES2023'], module: 'NodeNext', types: ['node'] },
  }
  await writeFile(join(directory, 'package.json'), '{"type":"module"}')
  await writeFile(join(directory, 'consumer.ts'), CONSUMER)
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const run = promisify(execFile)(process.execPath, [tsc, '-p', directory])
  const { stdout } = await run.catch((error: { stdout: string }) => error)
  expect(stdout).toBe('')
})

it('serve the example', async () => {
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const run = promisify(execFile)(process.execPath, [tsc, '-p', join(ROOT, 'examples')])
  const { stdout } = await run.catch((error: { stdout: string }) => error)
  expect(stdout).toBe('')
})

it('load neither the service nor its stores', async () => {
  const script = `import { BobbinClient } from 'bobbin/client'
new BobbinClient('http://127.0.0.1:8025')
console.log(JSON.stringify(process.report.getReport().sharedObjects))`
  const args = ['--input-type=module', '-e', script]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT })
  expect(stdout).toContain('[')
  expect(stdout).not.toContain('lmdb')
})
