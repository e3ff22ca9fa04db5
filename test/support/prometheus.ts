/** Reading what /metrics prints. */

export interface PrintedMetric {
  readonly name: string
  readonly type: string
  readonly help: string
  /** Labels, as they are printed (`{a="b"}`, or empty), to value; of a histogram its buckets, sum and count by full name. */
  readonly values: ReadonlyMap<string, number>
}

/** Throws for a line that is none of the text format, and for a sample that was not announced. */
export function parseMetrics(text: string): Map<string, PrintedMetric> {
  const metrics = new Map<string, PrintedMetric & { values: Map<string, number> }>()
  for (const line of text.split('\n')) {
    if (line === '') continue
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line)
    if (comment !== null) {
      const [, kind, name = '', rest = ''] = comment
      if (kind === 'HELP') metrics.set(name, { name, type: '', help: rest, values: new Map() })
      else metrics.set(name, { ...metrics.get(name)!, type: rest })
      continue
    }
    const sample = /^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$/.exec(line)
    if (sample === null) throw new Error(`no line of the text format: ${line}`)
    const [, name = '', labels = '', value = ''] = sample
    const base = name.replace(/_(bucket|sum|count)$/, '')
    const metric = metrics.get(name) ?? metrics.get(base)
    if (metric === undefined) throw new Error(`not announced: ${line}`)
    const key = metric.name === name ? labels : name.slice(base.length + 1) + labels
    if (metric.values.has(key)) throw new Error(`twice: ${line}`)
    metric.values.set(key, Number(value))
  }
  return metrics
}

/** What a service prints now, looked up by name and labels: `value('bobbin_messages{state="queued"}')`. */
export async function scrape(url: string) {
  const response = await fetch(`${url}/metrics`)
  if (response.status !== 200) throw new Error(`/metrics answered ${response.status}`)
  const metrics = parseMetrics(await response.text())
  return {
    metrics,
    value(sample: string): number | undefined {
      const [, name = '', labels = ''] = /^(\w+?)(\{.*\})?$/.exec(sample) ?? []
      return metrics.get(name)?.values.get(labels)
    },
  }
}
