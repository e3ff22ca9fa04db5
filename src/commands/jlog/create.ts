/** `bobbin jlog create` and `alter`: a journal's settings. */
import type { Command } from 'commander'
import {
  alterJournal,
  type Compression,
  type CreateOptions,
  createJournal,
  type Safety,
} from '../../../jlog/index.js'
import { choice, collect, UsageError } from '../../program.js'
import { given, octalMode, preCommitSize, safetyLevel, segmentSize } from './options.js'

interface SettingsFlags {
  segmentSize?: number
  safety?: Safety
  preCommit?: number
  fileMode?: number
}

export function addCreate(jlog: Command): void {
  withSettings(
    jlog
      .command('create')
      .description('make a journal; it appears whole and durable, or not at all')
      .argument('<dir>', 'a directory that is not there yet, in one that is'),
  )
    .option(
      '--compression <kind>',
      'off, none or lz4; cannot be changed later (default: off)',
      choice(['off', 'none', 'lz4']),
    )
    .option('--checksums', 'write checksums beside the segments, to find flipped bits in payloads')
    .option(
      '--subscriber <name>',
      'a subscriber to begin with; may be given several times',
      collect,
    )
    .addHelpText(
      'after',
      '\nExample:\n  bobbin jlog create ./mail.jlog --compression lz4 --subscriber archive',
    )
    .action(async (dir: string, flags: CreateFlags) => {
      const { compression, checksums, subscriber: subscribers } = flags
      const options: CreateOptions = {
        ...settingsOf(flags),
        ...given({ compression, checksums, subscribers }),
      }
      await createJournal(dir, options)
    })
}

interface CreateFlags extends SettingsFlags {
  compression?: Compression
  checksums?: boolean
  subscriber?: string[]
}

export function addAlter(jlog: Command): void {
  withSettings(
    jlog
      .command('alter')
      .description(
        'change settings of a journal, also while others have it open (but for the pre-commit buffer)',
      )
      .argument('<dir>'),
  )
    .addHelpText(
      'after',
      '\nExample:\n  bobbin jlog alter ./mail.jlog --safety safe --segment-size 16777216',
    )
    .action(async (dir: string, flags: SettingsFlags) => {
      const settings = settingsOf(flags)
      if (Object.keys(settings).length === 0) {
        throw new UsageError('nothing to alter: give at least one of the options that --help lists')
      }
      await alterJournal(dir, settings)
    })
}

function withSettings(command: Command): Command {
  return command
    .option('--segment-size <bytes>', 'bytes after which a segment is finished', segmentSize)
    .option('--safety <level>', 'unsafe, almost_safe or safe', safetyLevel)
    .option('--pre-commit <bytes>', 'size of the pre-commit buffer, 0 for none', preCommitSize)
    .option('--file-mode <mode>', 'mode of its files in octal digits', octalMode)
}

function settingsOf({ segmentSize: unitLimit, safety, preCommit, fileMode }: SettingsFlags) {
  return given({ unitLimit, safety, preCommit, fileMode })
}
