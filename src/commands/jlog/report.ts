/** How reports look: as aligned text for people, as JSON with the names that the REST interface uses for programs. */
export { reportToJson as toJson } from '../../../jlog/index.js'

/** Rows in columns as wide as their widest cell; numbers stand to the right. A line each, with its end. */
export function columns(rows: readonly (readonly (string | number)[])[], indent = ''): string {
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, String(cell).length)
    })
  }
  return rows
    .map((row) => {
      const cells = row.map((cell, i) =>
        typeof cell === 'number' ? String(cell).padStart(widths[i]!) : cell.padEnd(widths[i]!),
      )
      return `${indent}${cells.join('  ').trimEnd()}\n`
    })
    .join('')
}

/** `1 record`, `2 records`. */
export function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`
}

/** Hexadecimal segment number, as the segment's file is named. */
export function segmentName(log: number): string {
  return log.toString(16).padStart(8, '0')
}

/** A line on standard error that is no failure of the command. */
export function warn(text: string, program = 'bobbin'): void {
  process.stderr.write(`${program}: ${text.replaceAll(/\s*\n\s*/g, ' ')}\n`)
}
