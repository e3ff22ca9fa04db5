/** A raw LZ4 block's decompression, for tests that want nothing of the code under test. */
export function decompressRawSync(block: Buffer, length: number): Buffer {
  const out = Buffer.alloc(length)
  let from = 0
  let to = 0
  const extended = (nibble: number): number => {
    let n = nibble
    if (nibble === 15) {
      let byte: number
      do {
        byte = block[from++]!
        n += byte
      } while (byte === 255)
    }
    return n
  }
  while (from < block.length) {
    const token = block[from++]!
    const literals = extended(token >> 4)
    block.copy(out, to, from, from + literals)
    from += literals
    to += literals
    if (from >= block.length) break
    const distance = block[from]! | (block[from + 1]! << 8)
    from += 2
    for (let left = extended(token & 15) + 4; left > 0; left--, to++) out[to] = out[to - distance]!
  }
  if (to !== length) throw new Error(`block gives ${to} bytes, not ${length}`)
  return out
}

/** A raw LZ4 block of literals only: not small, but a block. */
export function compressRawSync(payload: Buffer): Buffer {
  const lengths: number[] = []
  if (payload.length >= 15) {
    let left = payload.length - 15
    for (; left >= 255; left -= 255) lengths.push(255)
    lengths.push(left)
  }
  const token = Math.min(15, payload.length) << 4
  return Buffer.concat([Buffer.from([token, ...lengths]), payload])
}
