export const ACK_BYTES: number
export function payloadOf(who: string, n: number): string
export function labelOf(payload: Buffer): string
export function randomFrom(seed: number): () => number
