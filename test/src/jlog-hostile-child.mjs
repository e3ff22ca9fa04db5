// Runs every tool on each journal of a list, and tells after each run how it ended: a line of JSON. Arguments: directories.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { addJlog } from '../../dist/src/commands/jlog.js'
import { jlogctl } from '../../dist/src/jlogctl/run.js'
import { runProgram } from '../../dist/src/program.js'

const report = process.stdout.write.bind(process.stdout)
let errors = ''
process.stdout.write = () => true
process.stderr.write = (text) => {
  errors += text
  return true
}
const sink = {
  out: async () => {},
  err: async (text) => {
    errors += text
  },
}

async function bobbinJlog(args) {
  const program = new Command('bobbin').option('--debug')
  addJlog(program)
  process.exitCode = 0
  await runProgram(program, ['jlog', ...args])
  process.stdout.removeAllListeners('error')
  return process.exitCode
}

const READING = [
  ['info'],
  ['cat'],
  ['cat', '--json'],
  ['inspect'],
  ['inspect', '--json'],
  ['inspect', '--records', '0'],
  ['sanity'],
  ['sanity', '--order', 'big'],
  ['subscriber', 'list'],
  ['repair', '--dry-run'],
  ['endian', '--to', 'big'],
]
const WRITING = [['clean'], ['repair'], ['repair', '--json'], ['inspect'], ['cat']]
const JLOGCTL = [
  ['meta', '-j'],
  ['subscriber', '-l', '-j'],
  ['subscriber', '-p', 'a', '-j'],
  ['data', '-idv', '-j'],
  ['data', '-r', '-j'],
  ['clean', '-j'],
  ['repair', '-f', '-j'],
]

const scratch = mkdtempSync(join(tmpdir(), 'bobbin-hostile-'))
const copy = (journal) => {
  const dir = join(scratch, 'j')
  rmSync(scratch, { recursive: true, force: true })
  mkdirSync(scratch)
  // Holes stay holes.
  execFileSync('cp', ['-a', '--sparse=always', journal, dir])
  return dir
}

async function run(journal, tool, args, work) {
  errors = ''
  report(`${JSON.stringify({ journal, tool, args })}\n`)
  const begun = performance.now()
  const code = await work().catch((error) => `threw ${error.stack}`)
  const milliseconds = Math.round(performance.now() - begun)
  const resident = process.resourceUsage().maxRSS * 1024
  report(
    `${JSON.stringify({ journal, tool, args, code, milliseconds, resident, errors: errors.slice(0, 4000) })}\n`,
  )
}

for (const journal of process.argv.slice(2)) {
  let dir = copy(journal)
  for (const [name, ...rest] of READING) {
    const args = name === 'endian' ? [name, dir, ...rest, '--output', `${dir}.${rest[1]}`] : null
    const all = args ?? (name === 'subscriber' ? [name, ...rest, dir] : [name, dir, ...rest])
    await run(journal, 'bobbin', all, () => bobbinJlog(all))
  }
  for (const [name, ...rest] of WRITING) {
    await run(journal, 'bobbin', [name, dir, ...rest], () => bobbinJlog([name, dir, ...rest]))
  }
  for (const args of JLOGCTL) {
    dir = copy(journal)
    await run(journal, 'jlogctl', [...args, dir], () => jlogctl([...args, dir], sink))
  }
}
rmSync(scratch, { recursive: true, force: true })
// That of the last tool is not ours.
process.exitCode = 0
