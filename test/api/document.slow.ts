// As document.test.ts does, for longer.
import { it } from 'vitest'
import { driveOperations } from '../support/document-driver.js'

const RUNS = Number(process.env.TEST_RUNS ?? 100)

it(
  `takes, at every operation, ${RUNS} generated requests, good and bad`,
  {
    timeout: 600_000,
  },
  () => driveOperations(RUNS),
)
