// What is shipped beside the service speaks of things that there are.
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { loadConfig } from '../../src/config.js'

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')

interface Dashboard {
  panels: { title: string; targets?: { expr: string }[] }[]
  templating: { list: { definition?: string }[] }
}

/** Metrics with their labels, as docs/metrics.md has them; that they are what is printed is another test's. */
const documented = new Map(
  [...read('docs/metrics.md').matchAll(/^\| `(\w+)` \| (\w+) \| ([^|]*) \|/gm)].map(
    ([, name, type, labels]) => [
      name!,
      { type: type!, labels: labels!.trim() === '' ? [] : labels!.trim().split(', ') },
    ],
  ),
)

/** Throws for a metric or label that there is not. */
function check(expression: string): void {
  const metrics = [...expression.matchAll(/\bbobbin_\w+/g)].map(([name]) => {
    const base = name.replace(/_(bucket|sum|count)$/, '')
    const histogram = documented.get(base)
    const metric =
      histogram?.type === 'histogram' && base !== name ? histogram : documented.get(name)
    if (metric === undefined || (metric.type === 'histogram' && base === name))
      throw new Error(`no metric ${name}: ${expression}`)
    return metric
  })
  const known = new Set(['instance', 'job', 'le', ...metrics.flatMap(({ labels }) => labels)])
  const selected = [...expression.matchAll(/\{([^}]*)\}/g)].flatMap(([, inside]) =>
    [...inside!.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label!),
  )
  const grouped = [...expression.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, inside]) =>
    inside!.split(',').map((label) => label.trim()),
  )
  for (const label of [...selected, ...grouped]) {
    if (!known.has(label)) throw new Error(`no label ${label}: ${expression}`)
  }
}

it('the check finds metrics and labels that there are not', () => {
  expect(() => check('rate(bobbin_messages{state="queued"}[5m])')).not.toThrow()
  expect(() => check('bobbin_nonsense')).toThrow('bobbin_nonsense')
  expect(() => check('bobbin_messages_count')).toThrow('bobbin_messages_count')
  expect(() => check('bobbin_spool_commit_duration_seconds')).toThrow('no metric')
  expect(() => check('bobbin_messages{colour="red"}')).toThrow('colour')
  expect(() => check('sum by (colour) (bobbin_messages)')).toThrow('colour')
})

it('the dashboard asks for metrics and labels that there are', () => {
  const { panels, templating } = JSON.parse(read('contrib/grafana-dashboard.json')) as Dashboard
  const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
  expect(expressions.length).toBeGreaterThan(40)
  for (const expression of expressions) check(expression)
  for (const { definition } of templating.list) check(definition ?? '')
})

it('the alerts ask for metrics and labels that there are', () => {
  const expressions = [
    ...read('contrib/prometheus-alerts.yml').matchAll(/ expr: (?:>\n((?: {10,}.*\n)+)|(.*)\n)/g),
  ].map(([, folded, plain]) => folded ?? plain!)
  expect(expressions.length).toBeGreaterThan(10)
  for (const expression of expressions) check(expression)
})

it('the example configuration is one', () => {
  const file = fileURLToPath(new URL('../../contrib/bobbin.toml', import.meta.url))
  expect(loadConfig({ file, env: {} })).toMatchObject({ data: '/var/lib/bobbin' })
})

it('the image is made of files that there are and that reach the build', () => {
  const allowed = [...read('.dockerignore').matchAll(/^!(.+)$/gm)].map(([, name]) => name!)
  const copied = [...read('Dockerfile').matchAll(/^COPY (?:--from=build )?(.+) \S+$/gm)]
    .flatMap(([, sources]) => sources!.split(' '))
    .map((source) => source.replace('/src/', ''))
    .filter((source) => !['.', 'node_modules', 'dist'].includes(source))
  expect(copied).toContain('package-lock.json')
  for (const name of [...copied, ...allowed]) {
    expect(existsSync(new URL(`../../${name}`, import.meta.url)), name).toBe(true)
  }
  for (const name of copied) expect(allowed, name).toContain(name.split('/')[0])
  const { include } = JSON.parse(read('tsconfig.json')) as { include: string[] }
  expect(allowed).toEqual(expect.arrayContaining([...include, 'tsconfig.json', 'package.json']))
})
