/** A journal's description and settings between the journal and JSON. */
import type { Static } from 'typebox'
import {
  type AlterOptions,
  type CreateOptions,
  formatLogId,
  type JournalInfo,
  SAFETY,
  type Safety,
  type SubscriberInfo,
} from '../jlog/index.js'
import { type Journal, type JournalSettings, SAFETY_NAMES, type Subscriber } from './schemas.js'

export function journalToJson(name: string, info: JournalInfo): Static<typeof Journal> {
  return {
    name,
    first: info.first === null ? null : formatLogId(info.first),
    last: info.last === null ? null : formatLogId(info.last),
    records: info.records,
    bytes: info.bytes,
    segment_size: info.unitLimit,
    compression: info.compression,
    safety: SAFETY_NAMES[info.safety],
    pre_commit: info.preCommit?.size ?? 0,
    segments: info.segments.map(({ log, bytes, records }) => ({
      log: log.toString(16).padStart(8, '0'),
      bytes,
      records,
    })),
    subscribers: info.subscribers.map(subscriberToJson),
  }
}

export function subscriberToJson({
  name,
  checkpoint,
  lag,
}: SubscriberInfo): Static<typeof Subscriber> {
  return {
    name,
    checkpoint: formatLogId(checkpoint),
    lag_records: lag.records,
    lag_bytes: lag.bytes,
  }
}

/** What is appended over REST is acknowledged to somebody else: unless told otherwise, once it is on the disk. */
export function createOptionsFromJson(json: Static<typeof JournalSettings>): CreateOptions {
  const { compression } = json
  return {
    safety: SAFETY.safe,
    ...alterOptionsFromJson(json),
    ...(compression === undefined ? {} : { compression }),
  }
}

export function alterOptionsFromJson({
  segment_size: unitLimit,
  safety,
  pre_commit: preCommit,
}: Static<typeof JournalSettings>): Pick<AlterOptions, 'unitLimit' | 'safety' | 'preCommit'> {
  return {
    ...(unitLimit === undefined ? {} : { unitLimit }),
    ...(safety === undefined ? {} : { safety: SAFETY_NAMES.indexOf(safety) as Safety }),
    ...(preCommit === undefined ? {} : { preCommit }),
  }
}
