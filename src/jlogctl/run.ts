/**
 * `jlogctl` as libjlog 2.6.0 has it: subcommands, and the old form with letters alone. Exit status: 0, 1 when something failed, 255 for
 * wrong usage and for `create`, `alter` and `meta` that fail. Where it differs on purpose, docs/jlog.md says so.
 */
import { type LogId, parseLogId } from '../../jlog/index.js'
import { getopt, UsageError } from './getopt.js'
import { Failed, type Output, reasonOf } from './output.js'
import { processJournal, type Task } from './process-journal.js'
import { alter, create, meta } from './settings.js'
import { OLD_USAGE, USAGE } from './usage.js'

const WRONG_USAGE = 255

type Subcommand = (argv: readonly string[], io: Output) => Promise<number>

const SUBCOMMANDS: Readonly<Record<string, Subcommand>> = {
  subscriber: (argv, io) => runOn(parseSubscriber(argv), io),
  clean: (argv, io) =>
    runOn(
      parseTask(argv, 'j:v', { files: true, clean: true }, () => ({})),
      io,
    ),
  data: (argv, io) => runOn(parseTask(argv, 'j:irdv', { files: true }, dataLetter), io),
  repair: (argv, io) =>
    runOn(
      parseTask(argv, 'j:vf', { repair: 'metadata' }, () => ({
        repair: 'all',
        files: true,
        analyze: true,
        repairFiles: true,
      })),
      io,
    ),
  create,
  alter,
  meta,
  help: async (_, io) => {
    await io.out(USAGE)
    return 0
  },
}

/** @returns the exit status */
export async function jlogctl(argv: readonly string[], io: Output): Promise<number> {
  const [first, ...rest] = argv
  const old = first?.startsWith('-') === true && first !== '-h'
  try {
    if (first === '-h') return await SUBCOMMANDS.help!(rest, io)
    if (old) return await oldForm(argv, io)
    if (first === undefined || !Object.hasOwn(SUBCOMMANDS, first)) throw new UsageError('')
    return await SUBCOMMANDS[first]!(rest, io)
  } catch (error) {
    if (error instanceof Failed) return 1
    if (!(error instanceof UsageError)) {
      await io.err(`jlogctl: ${reasonOf(error)}\n`)
      return 1
    }
    if (error.message !== '') await io.err(`jlogctl: ${error.message}\n`)
    if (error.showUsage) await io.out(old ? USAGE + OLD_USAGE : USAGE)
    return WRONG_USAGE
  }
}

async function runOn({ dir, task }: { dir: string; task: Task }, io: Output): Promise<number> {
  await processJournal(dir, task, io)
  return 0
}

/** The options that `subscriber`, `data`, `clean` and `repair` share, and those of their own by `letter`. */
function parseTask(
  argv: readonly string[],
  letters: string,
  initial: Task,
  letter: (letter: string, value: string) => Task,
): { dir: string; task: Task } {
  const { options, operands } = getopt(argv, letters)
  let dir = '.'
  const task: Task = { ...initial }
  for (const [name, value] of options) {
    if (name === 'j') dir = value
    else if (name === 'v') task.verbose = true
    else Object.assign(task, letter(name, value))
  }
  if (operands.length > 0) throw new UsageError(`extraneous arguments: ${operands[0]}`)
  return { dir, task }
}

function dataLetter(letter: string): Task {
  if (letter === 'i') return { index: true }
  return letter === 'r' ? { analyze: true, repairFiles: true } : { analyze: true }
}

function parseSubscriber(argv: readonly string[]): { dir: string; task: Task } {
  let actions = 0
  const { dir, task } = parseTask(argv, 'j:a:u:e:C:p:lv', {}, (letter, value): Task => {
    if (letter === 'C') return { checkpoint: parseCheckpoint(value) }
    actions++
    if (letter === 'l') return { listSubscribers: true }
    return subscriberLetter(letter, value)
  })
  const { checkpoint, add, update } = task
  if (actions > 1 || (checkpoint !== undefined && add === undefined && update === undefined)) {
    throw new UsageError('invalid option combination')
  }
  return { dir, task: actions === 0 ? { ...task, listSubscribers: true } : task }
}

function subscriberLetter(letter: string, value: string): Task {
  if (letter === 'a') return { add: value }
  if (letter === 'u') return { update: value }
  return letter === 'e' ? { erase: value } : { perspective: value }
}

function parseCheckpoint(text: string): LogId {
  if (/^[0-9a-f]{8}:[0-9a-f]{8}$/i.test(text)) return parseLogId(text)
  throw new UsageError(`Invalid argument to -C: '${text}' is not of the form 00000000:00000001`, {
    showUsage: false,
  })
}

async function oldForm(argv: readonly string[], io: Output): Promise<number> {
  const { options, operands } = getopt(argv, 'a:e:u:C:dsilrcp:vR')
  const task: Task = {}
  for (const [letter, value] of options) Object.assign(task, oldLetter(letter, value))
  if (operands.length === 0) throw new UsageError('')
  for (const dir of operands) {
    if (!task.clean) await io.out(`${dir}\n`)
    await processJournal(dir, task, io)
  }
  return 0
}

function oldLetter(letter: string, value: string): Task {
  switch (letter) {
    case 'C':
      return { checkpoint: parseCheckpoint(value) }
    case 'v':
      return { verbose: true }
    case 'R':
      return { repair: 'metadata' }
    case 's':
      return { listSubscribers: true }
    case 'l':
      return { files: true }
    case 'c':
      return { files: true, clean: true }
    case 'i':
    case 'd':
    case 'r':
      return { files: true, ...dataLetter(letter) }
    default:
      return subscriberLetter(letter, value)
  }
}
