/** Subscribers whose names are no UTF-8, by the programs themselves: a shell gives them the bytes. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createJournal, openWriter } from '../../jlog/index.js'
import { bytesOfArgument } from '../../src/arguments.js'

const program = (name: string) =>
  fileURLToPath(new URL(`../../dist/src/${name}.js`, import.meta.url))
let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'bobbin-arguments-'))
})
afterAll(() => rm(root, { recursive: true }))

/** `$J` is jlogctl, `$B` bobbin, `$1` the directory. */
function shell(script: string, dir: string): Buffer {
  const env = {
    ...process.env,
    J: `${process.execPath} ${program('jlogctl')}`,
    B: `${process.execPath} ${program('main')}`,
  }
  return execFileSync('sh', ['-ec', script, 'sh', dir], { env })
}

const checkpoints = (dir: string) =>
  readdirSync(dir)
    .filter((name) => name.startsWith('cp.'))
    .sort()

it('names of any bytes are those bytes, on the command line too', async () => {
  const dir = join(root, 'named')
  await createJournal(dir)
  const writer = await openWriter(dir)
  await writer.append('one')
  await writer.close()
  const said = shell(
    `x=$(printf 'a\\377\\303\\251') y=$(printf '\\376') z=$(printf '\\355\\262\\200')
     $J subscriber -j "$1" -a "$x"
     $J subscriber -j "$1" -a "$y"
     $B jlog subscriber add "$1" "$z" --at end
     $J subscriber -j "$1" -u "$y" -C 00000000:00000001
     $B jlog cat "$1" --subscriber "$x"
     $B jlog cat "$1" --subscriber "$y"`,
    dir,
  )
  expect(checkpoints(dir)).toEqual(['cp.61ffc3a9', 'cp.edb280', 'cp.fe'])
  expect(said.toString('latin1')).toBe(
    "Added subscriber 'a\xff\xc3\xa9' -> 00000000:00000000\n" +
      "Added subscriber '\xfe' -> 00000000:00000000\n" +
      '00000000:00000001\n' +
      "Updated subscriber '\xfe' 00000000:00000000 -> 00000000:00000001\n" +
      'one\n',
  )
  shell(
    `$J subscriber -j "$1" -e "$(printf '\\376')"; $B jlog subscriber remove "$1" "$(printf '\\355\\262\\200')"`,
    dir,
  )
  expect(checkpoints(dir)).toEqual(['cp.61ffc3a9'])
})

it('text is as it was', () => {
  for (const text of ['', 'plain', 'é\ufffd', '\u{1f40c}']) {
    expect(bytesOfArgument(text)).toEqual(Buffer.from(text))
  }
})

it('a directory as standard input is refused, and leaves no record', async () => {
  const dir = join(root, 'appended')
  await createJournal(dir)
  const { status, stderr } = spawnSync(
    'sh',
    ['-c', `exec ${process.execPath} ${program('main')} jlog append "$1" < "$1"`, 'sh', dir],
    { encoding: 'utf8' },
  )
  expect([status, stderr]).toEqual([1, 'bobbin: standard input is a directory\n'])
  expect(readdirSync(dir)).toEqual(['metastore'])
})
