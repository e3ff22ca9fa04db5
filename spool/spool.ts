/** The spool's face: messages in, messages out, each acknowledged only once a power cut could not take it. */
import type { EventOptions } from './events.js'
import type {
  ByteRange,
  MessageMeta,
  MessagePage,
  MessageQuery,
  MetaPatch,
  NewMessage,
  StagedBody,
  StageOptions,
  SwapOutMetaOptions,
  SwapOutMetaResult,
  SwapOutResult,
  SwappedBody,
} from './message.js'
import type { Outbox, OutboxSize } from './outbox.js'

export interface SpoolOptions {
  /** Base directory; made when absent. */
  path: string
  /** Offline reading: takes no ownership, refuses every write. */
  readOnly?: boolean | undefined
  /** Of the files; 0o640 when not given. */
  mode?: number | undefined
  nodeName?: string | undefined
  /** Bodies over it are never whole in memory; 256 KiB when not given. */
  largeMessageThreshold?: number | undefined
  /** No limit when not given. */
  maxMessageSize?: number | undefined
  /** Upper bound of the store's file. */
  mapSize?: number | undefined
  /** No events are logged when not given. */
  events?: EventOptions | undefined
}

export interface SpoolStats {
  messages: number
  bodies: number
  /** Of all bodies, each counted once. */
  bytes: number
  outbox: OutboxSize
  /** Messages that have a next attempt. */
  due: number
  /** Why the spool takes no writes; null when it does. */
  readOnly: string | null
}

export declare class Spool {
  stageBody(
    source: Uint8Array | AsyncIterable<Uint8Array>,
    options?: StageOptions,
  ): Promise<StagedBody>
  swapOut(message: NewMessage): Promise<SwapOutResult>
  swapOutMulti(messages: readonly NewMessage[]): Promise<SwapOutResult[]>
  swapIn(id: string, range?: ByteRange): Promise<SwappedBody>
  meta(id: string): Promise<MessageMeta>
  refetchMeta(id: string): Promise<MessageMeta>
  swapOutMeta(
    id: string,
    patch: MetaPatch,
    options?: SwapOutMetaOptions,
  ): Promise<SwapOutMetaResult>
  swapRemove(id: string): Promise<void>
  list(query?: MessageQuery): Promise<MessagePage>
  stats(): Promise<SpoolStats>
  /** Why the spool takes no writes; null when it does. */
  readonly readOnly: string | null
  readonly outbox: Outbox
  close(): Promise<void>
}

export declare function openSpool(options: SpoolOptions): Promise<Spool>
