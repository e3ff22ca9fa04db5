/** Reports (repair, inspection) as JSON has them: the same with names in snake_case. */

export type ReportJson =
  | string
  | number
  | boolean
  | null
  | undefined
  | readonly ReportJson[]
  | { [key: string]: ReportJson }

export function reportToJson(value: unknown): ReportJson {
  if (Array.isArray(value)) return value.map(reportToJson)
  if (typeof value !== 'object' || value === null) return value as ReportJson
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      reportToJson(item),
    ]),
  )
}
