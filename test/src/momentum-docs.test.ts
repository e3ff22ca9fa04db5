// docs/momentum.md: it has every operation of Momentum's spool, and each call, route, setting and command it names is there.
import { readFile } from 'node:fs/promises'
import { Command } from 'commander'
import { expect, test } from 'vitest'
import * as api from '../../api/index.js'
import * as library from '../../spool/index.js'
import { Upkeep } from '../../spool/upkeep.js'
import { addInject } from '../../src/commands/inject.js'
import { addJlog } from '../../src/commands/jlog.js'
import { addSpool } from '../../src/commands/spool.js'
import { SETTINGS } from '../../src/config.js'
import { startApi } from '../support/api.js'
import { documentOf, operationsOf } from '../support/openapi.js'

const at = (path: string) => new URL(`../../${path}`, import.meta.url)
const page = await readFile(at('docs/momentum.md'), 'utf8')

const OPERATIONS = `
  ec_message_swap_out ec_message_cowref ec_message_copy _snapshot ec_message_swap_in HEADERS MIME_STRUCTURE
  ec_message_swap_out_meta swap_out_meta_after_each_tempfail ec_message_refetch_meta context_discard post_swap_in_meta
  pre_swap_out_meta swap_out_multi ec_message_context_get _exists ec_message_context_set ec_message_context_delete
  _clean ec_message_context_firstkey _nextkey _size ec_message_blobject_ ec_swap_remove ec_swap_remove_meta
  ec_spool_ctx_remove_mid ec_message_unlink_on_free ec_async_fail ec_message_is_large large_message_threshold
  ec_message_get_message_size render_meta_to_string ec_message_set_next_attempt mid_to_spool_name spool_name_to_mid
  msc_thread_id ec_spool_ctx_lock ec_spool_ctx_enum_messages spool_disk_queue_state ec_spool_ctx_import_message
  set_always_regenerate_message_ids set_suppress_trace_headers set_max_retention import_poll log_spool_import
  log_reception_v1 log_attempt_v1 log_delivery_v1 log_transient_failure_v1 log_permanent_failure_v1 log_rejection
  log_error aaa_log log_reopen compress_spool minimum_size read_only suppress_spool num_retries _unsafe_spool
  unlink_on_spool_in_failure ec_spool_space keep_message_dicts_in_memory max_resident_messages Spool_Base spool_mode
  EC_MSG_SWAP_RESULT_COMPLETE _PARTIAL _ERR refs
`

/** Cells of the rows, a row each. */
const rows = page
  .split('\n')
  .filter((line) => line.startsWith('|'))
  .slice(2)
  .map((line) => line.split(/(?<!\\)\|/).slice(1, 5))
const codeIn = (column: number) =>
  rows.flatMap((cells) =>
    [...(cells[column] as string).matchAll(/`([^`]+)`/g)].map(([, code]) => code!),
  )

test('every operation has its row', () => {
  const named = codeIn(0).join(' ').match(/\w+/g)
  for (const operation of OPERATIONS.trim().split(/\s+/)) expect(named).toContain(operation)
})

test('every call and option of the library is there', async () => {
  const known = new Set([...Object.keys(library), ...Object.keys(api)])
  for (const { prototype } of [library.Spool, library.ContextDictionary, Upkeep]) {
    for (const name of Object.getOwnPropertyNames(prototype)) known.add(name)
  }
  const calls = codeIn(1).filter((code) => /^[a-z][a-zA-Z.]+(\(.*\))?$/i.test(code))
  expect(calls.length).toBeGreaterThan(40)
  // Options and fields are in no program that runs: their declarations are looked up.
  const files = [
    'options',
    'message',
    'import',
    'hooks',
    'context',
    'dispositions',
    'delivery',
    'jobs',
  ]
  const texts = await Promise.all(files.map((file) => readFile(at(`spool/${file}.ts`), 'utf8')))
  for (const call of calls) {
    const name = call.replace(/\(.*/, '').split('.').at(-1) as string
    const declared = new RegExp(`^  (readonly )?${name}\\??[:(]`, 'm')
    const isThere = known.has(name) || texts.some((text) => declared.test(text))
    expect(isThere || WORDS.has(name), call).toBe(true)
  }
})
/** Values, not names. */
const WORDS = new Set([
  'bobbin/spool',
  'complete',
  'partial',
  'transient_failure',
  'permanent_failure',
])

test('every route and setting is there', async () => {
  const operations = operationsOf(await documentOf(await startApi()))
  const paths = operations.map(({ path }) => path)
  let last = ''
  for (const code of codeIn(2)) {
    const [, method, path = '', query] = /^([A-Z]+)? ?([/…][^?]*)?(?:\?(\w+)=.*)?$/.exec(code) ?? []
    if (path === '' && query === undefined) {
      const isSetting = SETTINGS.some(({ path }) => path === code || path.startsWith(`${code}.`))
      if (/^[a-z]+\./.test(code) || code === 'data' || code === 'retry')
        expect(isSetting, code).toBe(true)
      continue
    }
    // `…` is whatever stands before what follows in the paths.
    if (path !== '') last = path.replace(/\{[^}]*\}/g, '{}')
    const wanted = last.replace('…', '')
    const found = operations.filter(
      (operation) =>
        (method === undefined || operation.method.toUpperCase() === method) &&
        operation.path.replace(/\{[^}]*\}/g, '{}').endsWith(wanted),
    )
    expect(
      found.map(({ path }) => path),
      code,
    ).not.toEqual([])
    if (query === undefined) continue
    const queries = found.flatMap(({ parameters }) => parameters.map(({ name }) => name))
    expect(queries, code).toContain(query)
  }
  expect(paths.length).toBeGreaterThan(40)
})

test('every command and its options are there', () => {
  const program = new Command('bobbin')
  for (const add of [addInject, addJlog, addSpool]) add(program)
  for (const code of codeIn(3)) {
    let command = program
    for (const word of code.split(' ').slice(code.startsWith('bobbin') ? 1 : 0)) {
      if (word.startsWith('--')) {
        const importing = program.commands
          .find((one) => one.name() === 'spool')
          ?.commands.find((one) => one.name() === 'import')
        const { options } = command === program ? (importing as Command) : command
        expect(
          options.map(({ long }) => long),
          code,
        ).toContain(word)
        continue
      }
      const next = command.commands.find((one) => one.name() === word)
      if (next === undefined) expect(word, code).toMatch(/^[A-Z]+$/)
      else command = next
    }
    if (code.startsWith('bobbin')) expect(command, code).not.toBe(program)
  }
})
