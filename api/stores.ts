/**
 * What the REST service needs of the stores below it, and no more: another engine that keeps these promises can stand
 * in for the embedded ones.
 */
import type { JournalSet } from '../jlog/index.js'
import type { Spool } from '../spool/index.js'

/** Messages: durable when a call resolves. */
export type MessageStore = Pick<
  Spool,
  | 'stageBody'
  | 'swapOut'
  | 'swapOutMulti'
  | 'swapIn'
  | 'meta'
  | 'swapOutMeta'
  | 'swapRemove'
  | 'swapInHeaders'
  | 'swapInStructure'
  | 'swapOutContent'
  | 'swapRemoveContent'
  | 'copy'
  | 'context'
  | 'claim'
  | 'extendClaim'
  | 'releaseClaim'
  | 'dispose'
  | 'log'
  | 'unlinkOnFree'
  | 'list'
  | 'stats'
  | 'upkeep'
  | 'importFrom'
>

/** Journals by name. */
export type JournalStore = Pick<
  JournalSet,
  'names' | 'path' | 'create' | 'alter' | 'delete' | 'append'
>
