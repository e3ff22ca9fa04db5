/** A content as it is read: when the connection breaks it is begun again where it stood, as long as it is the same content. */
import { ClientError } from './errors.js'
import type { CallOptions, Streamed, Transport } from './transport.js'

export interface ContentOptions extends CallOptions {
  /** First byte; default 0. */
  readonly start?: number | undefined
  /** Byte after the last; default: to the end. */
  readonly end?: number | undefined
}

/** Resolves once it begins to come. */
export async function readContent(
  transport: Transport,
  path: string,
  { start = 0, end, ...call }: ContentOptions,
): Promise<AsyncGenerator<Uint8Array, void, void>> {
  const open = (from: number, headers: Record<string, string> = {}) => {
    const isWhole = from === 0 && end === undefined
    const range = isWhole ? {} : { range: `bytes=${from}-${end === undefined ? '' : end - 1}` }
    return transport.stream({ ...call, path, headers: { ...call.headers, ...range, ...headers } })
  }
  const first = await open(start)
  return resuming(first, start, (from, etag) => open(from, { 'if-range': etag }))
}

async function* resuming(
  first: Streamed,
  start: number,
  reopen: (from: number, etag: string) => Promise<Streamed>,
): AsyncGenerator<Uint8Array, void, void> {
  const etag = first.response.headers.get('etag') ?? ''
  let position = start
  for (let { body } = first; ; ) {
    const before = position
    try {
      for await (const bytes of body) {
        position += bytes.length
        yield bytes
      }
      return
    } catch (error) {
      // Without progress it would go on for ever.
      const resumable = error instanceof ClientError && error.temporary && position > before
      if (!resumable || etag === '') throw error
      const again = await reopen(position, etag)
      body = again.body
      if (again.response.status === 206) continue
      await body.return()
      throw new ClientError(0, 'CONTENT_CHANGED', 'the content was replaced while it was read')
    }
  }
}
