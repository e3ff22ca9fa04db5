/** The report of an import. */
import type { ImportReport } from '../spool/index.js'

/** As the job's result has it. */
export interface ImportReportJson extends Omit<ImportReport, 'failures'> {
  readonly failures: { original_id: string; result: number; reason: string }[]
}

export function importToJson({ failures, ...report }: ImportReport): ImportReportJson {
  return {
    ...report,
    failures: failures.map(({ originalId, result, reason }) => ({
      original_id: originalId,
      result,
      reason,
    })),
  }
}
