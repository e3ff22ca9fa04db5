/** What a writer can be told when it is opened, and what it answers to a batch. */
import type { LogId } from './log-id.js'

/** Told of what a writer does, at once: it must be cheap, and must not throw. */
export interface WriterObserver {
  /** Records went to the segment. `bytes` as they stand on disk. */
  appended(records: number, bytes: number): void
  /** A sync of the segment came back well after so many milliseconds. */
  synced(milliseconds: number): void
}

export interface WriterOptions {
  /** Mode of new files, less the umask. Default: the metastore's. */
  readonly fileMode?: number
  /** Makes the pre-commit buffer one of so many bytes, 0 for none. Default: as it is. */
  readonly preCommit?: number
  /** Write sidecar checksums, `<segment>.sum`. Default: if the journal has any. */
  readonly checksums?: boolean
  /** Bytes that appends may hold while they wait; one that would exceed it is refused. Default 256 MiB. */
  readonly maxPendingBytes?: number
  /**
   * Write on the calling thread for as long as the disk takes it into its cache at once: that is much faster than handing
   * each write to another thread. False: never, for a program that must not wait even for one write of a disk
   * that stalls. Default true.
   */
  readonly direct?: boolean
  /** Milliseconds that an append waits for another process to free the segment. Default 30 s. */
  readonly lockTimeout?: number
  readonly observer?: WriterObserver
}

export interface AppendedBatch {
  readonly first: LogId
  readonly last: LogId
  readonly count: number
}
