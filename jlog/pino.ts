/**
 * A pino transport that logs into a journal: each log line is one record, without its newline.
 *
 *     pino({ transport: { target: 'bobbin/jlog/pino', options: { path: './app.jlog', create: { safety: 2 } } } })
 *
 * Promises: lines stand in the journal in the order in which they were logged, each as safe as the journal's safety says before the next
 * are taken; `logger.flush(callback)` calls back once everything logged before it is on the disk, whatever the safety; the end of the
 * process waits for what was logged. Nothing piles up here: what the journal has not taken yet stays with pino. A journal that cannot be
 * opened or written ends the transport with an `error` event; lines that it had acknowledged stand.
 */
import { Writable } from 'node:stream'
import { type CreateOptions, createJournal } from './create.js'
import { JlogError } from './errors.js'
import { LineSplitter } from './line-splitter.js'
import { type JournalWriter, openWriter, type WriterOptions } from './writer.js'

export interface PinoTransportOptions {
  /** The journal's directory. */
  readonly path: string
  /**
   * Makes the journal if it is not there: `true`, or how it is to be. An existing one is taken as it is. Default: it must be there.
   */
  readonly create?: boolean | CreateOptions
  /** As for `openWriter`. */
  readonly writer?: Pick<WriterOptions, 'fileMode' | 'checksums' | 'lockTimeout'>
}

/**
 * What pino calls in its worker thread.
 * @throws Error when the journal cannot be made or opened, its message with the journal's code at its end; pino emits it as `error`
 */
export default async function journalTransport(
  options: PinoTransportOptions,
): Promise<JournalStream> {
  const { path, create, writer } = options
  if (typeof path !== 'string' || path === '') {
    throw new Error('the transport needs the path of a journal: give `path` in its options')
  }
  if (create !== undefined && create !== false) {
    await createJournal(path, create === true ? {} : create).catch((error: unknown) => {
      const there = error instanceof JlogError && error.code === 'JLOG_ERR_CREATE_EXISTS'
      if (!there) rethrowWithCode(error)
    })
  }
  return new JournalStream(await openWriter(path, writer).catch(rethrowWithCode))
}

/** Bytes of log lines that may wait in the stream before pino is held back. */
const WAITING_BYTES = 1024 * 1024

/** Bytes of log lines in, records out. */
export class JournalStream extends Writable {
  readonly #writer: JournalWriter
  readonly #lines = new LineSplitter()

  constructor(writer: JournalWriter) {
    super({ highWaterMark: WAITING_BYTES })
    this.#writer = writer
  }

  /** Resolves once everything written before is on the disk. `logger.flush` comes here. */
  async flush(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.write(NOTHING, (error) => (error ? reject(error) : resolve()))
    })
    await this.#writer.sync().catch(rethrowWithCode)
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Callback): void {
    this.#append(this.#lines.push(chunk)).then(() => done(), done)
  }

  override _writev(chunks: { chunk: Buffer }[], done: Callback): void {
    this.#append(chunks.flatMap(({ chunk }) => this.#lines.push(chunk))).then(() => done(), done)
  }

  override _final(done: Callback): void {
    this.#append(this.#lines.end())
      .then(() => this.#writer.close().catch(rethrowWithCode))
      .then(() => done(), done)
  }

  override _destroy(error: Error | null, done: Callback): void {
    this.#writer.close().then(
      () => done(error),
      (cause: Error) => done(error ?? cause),
    )
  }

  async #append(lines: Buffer[]): Promise<void> {
    if (lines.length > 0) await this.#writer.appendBatch(lines).catch(rethrowWithCode)
  }
}

type Callback = (error?: Error | null) => void

const NOTHING = Buffer.alloc(0)

/** Of an error that leaves a worker thread only name, message and stack arrive: the code goes into the message. */
function rethrowWithCode(error: unknown): never {
  if (!(error instanceof JlogError)) throw error
  throw new Error(`${error.message} [${error.code}]`, { cause: error })
}
