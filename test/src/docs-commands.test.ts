// Every command line that the pages for operators name is one that the program takes.
import { readFileSync } from 'node:fs'
import { Command, type Option } from 'commander'
import { expect, it } from 'vitest'
import { addInject } from '../../src/commands/inject.js'
import { addJlog } from '../../src/commands/jlog.js'
import { addServe } from '../../src/commands/serve.js'
import { addSpool } from '../../src/commands/spool.js'
import { addToken } from '../../src/commands/token.js'

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')

/** The program, but that its commands do nothing. */
function program(): Command {
  const bobbin = new Command('bobbin').option('--debug')
  for (const add of [addServe, addInject, addSpool, addJlog, addToken]) add(bobbin)
  const tame = (command: Command) => {
    command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} })
    if (command.commands.length === 0) command.action(() => {})
    command.commands.forEach(tame)
  }
  tame(bobbin)
  return bobbin
}

interface Line {
  readonly text: string
  /** Printed as it is to be typed; else it may leave things out. */
  readonly isWhole: boolean
}

/** Command lines of the blocks, and what is quoted in sentences. */
function linesOf(page: string): Line[] {
  const lines: Line[] = []
  for (const line of page.split('\n')) {
    // Output that begins with the program's name and a colon is its error.
    const block =
      /^ {4,}(?:[A-Z_]+=\S+ |npx |sudo -u \w+ |ssh \S+ sudo -u \w+ )*(bobbin [a-z].*)$/.exec(line)
    if (block !== null) {
      const text = block[1]!.replace(/ {2,}.*$|\s(?:#|\||>|&&)\s.*$/, '')
      lines.push({ text, isWhole: !/[[…]|\w\|\w/.test(text) })
      continue
    }
    for (const [, text] of line.matchAll(/`(bobbin [a-z][^`]*)`/g)) {
      lines.push({ text: text!, isWhole: false })
    }
  }
  return lines
}

/** What is wrong with it; null when nothing is. */
async function problem({ text, isWhole }: Line): Promise<string | null> {
  const words = text.split(/\s+/).slice(1)
  if (isWhole) {
    try {
      await program().parseAsync(words, { from: 'user' })
    } catch (error) {
      return (error as Error).message
    }
    return null
  }
  let command = program()
  for (const word of words) {
    const next = command.commands.find((child) => child.name() === word)
    if (next !== undefined) command = next
    else if (command.commands.length > 0 && /^[a-z]/.test(word)) return `no command ${word}`
    else break
  }
  const known = flagsOf(command)
  const wrong = text.match(/--[a-z][a-z-]*/g)?.filter((flag) => !known.has(flag)) ?? []
  return wrong.length === 0 ? null : `no option ${wrong.join(', ')}`
}

/** Of a command; of one with commands of its own, of any of them. */
function flagsOf(command: Command): Set<string> {
  const own = command.options.map(({ long }: Option) => long ?? '')
  return new Set(['--help', ...own, ...command.commands.flatMap((child) => [...flagsOf(child)])])
}

it('the check finds commands and options that there are not', async () => {
  const problemOf = (line: string) => problem(linesOf(line)[0]!)
  expect(await problemOf('    bobbin spool list --data D | head')).toBeNull()
  expect(await problemOf('    FOO=bar bobbin jlog repair D --dry-run > f')).toBeNull()
  expect(await problemOf('    bobbin spool lisst')).toContain('lisst')
  expect(await problemOf('    bobbin spool list --nonsense')).toContain('--nonsense')
  expect(await problemOf('    bobbin spool show')).toContain('id')
  expect(await problemOf('see `bobbin spool … --data`')).toBeNull()
  expect(await problemOf('see `bobbin spool import --nonsense`')).toContain('--nonsense')
  expect(await problemOf('see `bobbin spooool`')).toContain('spooool')
  expect(linesOf('    bobbin: the spool is owned by …')).toEqual([])
})

for (const [page, least] of [
  ['docs/operations.md', 40],
  ['docs/import.md', 3],
  ['docs/security.md', 4],
] as const) {
  it(`${page}: every command is one`, async () => {
    const lines = linesOf(read(page))
    expect(lines.length).toBeGreaterThanOrEqual(least)
    const wrong: string[] = []
    for (const line of lines) {
      const found = await problem(line)
      if (found !== null) wrong.push(`${line.text}: ${found}`)
    }
    expect(wrong).toEqual([])
  })
}

it('docs/operations.md has the headings that others send operators to', () => {
  const page = read('docs/operations.md')
  const anchors = new Set(
    [...page.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
      heading!
        .toLowerCase()
        .replaceAll(/[^\w\s-]/g, '')
        .replaceAll(' ', '-'),
    ),
  )
  const wanted = [
    ...read('contrib/prometheus-alerts.yml').matchAll(/operations\.md#([\w-]+)/g),
    ...page.matchAll(/\]\(#([\w-]+)\)/g),
  ].map(([, anchor]) => anchor!)
  for (const file of ['contrib/bobbin.service', 'Dockerfile']) {
    const [, heading] = /operations\.md, "([^"]+)"/.exec(read(file))!
    wanted.push(heading!.toLowerCase().replaceAll(' ', '-'))
  }
  expect(wanted.length).toBeGreaterThan(15)
  expect(wanted.filter((anchor) => !anchors.has(anchor))).toEqual([])
})
