// The model test, long: ten thousand operations, each run a spool of its own. TEST_SEED repeats one, MODEL_SHRINK looks for
// the shortest list of operations that goes wrong, which takes its time.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { op } from './model-ops.js'
import { type ModelOptions, runModel } from './model-run.js'

const STEPS = Number(process.env.MODEL_STEPS ?? 10_000)
const ops = fc.array(op, { minLength: 100, maxLength: 700, size: 'max' })

const WORLDS: ModelOptions[] = [
  { defers: false, maxRetention: null },
  { defers: true, maxRetention: null },
  { defers: false, maxRetention: 5000 },
  { defers: true, maxRetention: 20_000 },
]

test(`${STEPS} operations on the spool do what the model says`, {
  timeout: 3_600_000,
}, async () => {
  const first = Number(process.env.TEST_SEED ?? Date.now() % 2 ** 31)
  let steps = 0
  for (let n = 0; steps < STEPS; n++) {
    const options = WORLDS[(first + n) % WORLDS.length] as ModelOptions
    await fc.assert(
      fc.asyncProperty(ops, async (ops) => {
        steps += await runModel(ops, options)
      }),
      {
        seed: first + n,
        numRuns: 1,
        endOnFailure: process.env.MODEL_SHRINK === undefined,
        // The operations are thousands of lines; the last of them are in the message.
        verbose: 0,
      },
    )
  }
  expect(steps).toBeGreaterThanOrEqual(STEPS)
})
