/**
 * The subscribers of a journal: who reads it, and from where. Every change is durable with its directory entry
 * before the call returns, except a moved checkpoint, which is as durable as the journal's safety says.
 */
import {
  CheckpointFile,
  createCheckpoint,
  readCheckpoint,
  readCheckpoints,
  removeCheckpoint,
  type SubscriberName,
  tryToRemoveConsumed,
} from './checkpoints.js'
import { SAFETY } from './format.js'
import { listJournal } from './journal-directory.js'
import { firstId, lastId } from './journal-end.js'
import { compareLogIds, type LogId } from './log-id.js'
import { segmentStart } from './segment-index.js'
import { readSettings } from './settings.js'

export interface SubscriberPosition {
  /** The name as UTF-8 text. */
  readonly name: string
  /** The name as it is: any bytes. */
  readonly nameBytes: Buffer
  /** The last record that was read; marker 0: none of its segment. */
  readonly checkpoint: LogId
  /** False when the checkpoint file has the wrong size, which a repair mends. */
  readonly sound: boolean
}

/** Where a new subscriber begins: the earliest segment; after the last complete record now; after an id; where another one is. */
export type Whence = 'begin' | 'end' | LogId | { readonly copy: SubscriberName }

/**
 * All subscribers, sorted by name. A checkpoint file of the wrong size is listed as the beginning, which is how it reads.
 * @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR
 */
export async function listSubscribers(dir: string): Promise<SubscriberPosition[]> {
  const subscribers = await readCheckpoints(dir)
  return subscribers.map((subscriber) => ({
    ...subscriber,
    checkpoint: subscriber.checkpoint ?? segmentStart(0),
    sound: subscriber.checkpoint !== null,
  }))
}

/**
 * @returns the new subscriber's checkpoint
 * @throws JlogError JLOG_ERR_SUBSCRIBER_EXISTS; JLOG_ERR_INVALID_SUBSCRIBER (no name, or a copy of one that is not there);
 * JLOG_ERR_META_OPEN, JLOG_ERR_OPEN (no journal)
 */
export async function addSubscriber(
  dir: string,
  name: SubscriberName,
  whence: Whence = 'begin',
): Promise<LogId> {
  // Asked first of all: a directory that is no journal gets no subscriber.
  await readSettings(dir)
  const checkpoint = await resolveWhence(dir, whence)
  await createCheckpoint(dir, name, checkpoint)
  const isId = typeof whence === 'object' && 'log' in whence
  return isId ? checkpoint : settled(dir, name, whence, checkpoint)
}

/**
 * Until a subscriber is there it holds no segment: those that are after its checkpoint may have been removed meanwhile. Then it
 * is put where it would begin now, so that nothing is missing after the checkpoint that is told.
 */
async function settled(
  dir: string,
  name: SubscriberName,
  whence: Whence,
  checkpoint: LogId,
): Promise<LogId> {
  let at = checkpoint
  for (;;) {
    const { segments } = await listJournal(dir)
    if (segments.length === 0 || segments.includes(at.log)) return at
    // The one to be copied may be gone by now; the new one is there.
    const now = await resolveWhence(dir, whence).catch(() => at)
    if (compareLogIds(at, now) === 0) return at
    const file = await CheckpointFile.open(dir, name)
    try {
      await file.write(now, SAFETY.safe)
    } finally {
      await file.close()
    }
    at = now
  }
}

/** @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER when there is no such subscriber */
export async function removeSubscriber(dir: string, name: SubscriberName): Promise<void> {
  await removeCheckpoint(dir, name)
}

/** @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER when there is no such subscriber */
export async function getCheckpoint(dir: string, name: SubscriberName): Promise<LogId> {
  return (await readCheckpoint(dir, name)) ?? segmentStart(0)
}

export interface SetCheckpointOptions {
  /** Remove the segments that nobody needs any more when it moves to a later one. Default: true. */
  readonly clean?: boolean
  /**
   * Given where it stands, null when that cannot be read, under the checkpoint's lock, so that nobody moves it meanwhile. What it
   * throws refuses the move.
   */
  readonly judge?: (before: LogId | null) => void
}

/**
 * Everything up to and including `id` counts as read by this subscriber. May move backwards, too.
 * @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER when there is no such subscriber
 */
export async function setCheckpoint(
  dir: string,
  name: SubscriberName,
  id: LogId,
  options: SetCheckpointOptions = {},
): Promise<void> {
  const { safety } = await readSettings(dir)
  const file = await CheckpointFile.open(dir, name)
  let before: LogId | null
  try {
    before = await file.write(id, safety, options.judge)
  } finally {
    await file.close()
  }
  const moved = before === null || before.log < id.log
  if (moved && (options.clean ?? true)) await tryToRemoveConsumed(dir)
}

async function resolveWhence(dir: string, whence: Whence): Promise<LogId> {
  if (whence === 'begin') return firstId(dir)
  if (whence === 'end') return lastId(dir)
  if ('copy' in whence) return getCheckpoint(dir, whence.copy)
  return { log: whence.log, marker: whence.marker }
}
