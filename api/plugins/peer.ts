/** Facts of a caller, as they are logged. */
import type { FastifyRequest } from 'fastify'

/** Its address; `unix` when it came over a Unix socket. */
export function peerOf({ ip }: FastifyRequest): string {
  return (ip as string | undefined) ?? 'unix'
}

/** Text from outside, no longer than this. */
export function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}…`
}
