/** Numbers for tests: with TEST_SEED the same in each run, without it others each time, and a test that fails names them. */
import { onTestFailed } from 'vitest'
import { randomFrom } from '../jlog/processes/common.mjs'

/** To be called in a test. @returns what Math.random would be */
export function seededRandom(): () => number {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
  onTestFailed(() => console.log(`TEST_SEED=${seed}`))
  return randomFrom(seed)
}
