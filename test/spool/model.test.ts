// Random operations on a spool and on a simple model beside it, with restarts and kills in between: after each,
// everything in the spool is what the model says. Long in model.slow.ts.
import fc from 'fast-check'
import { test } from 'vitest'
import { op } from './model-ops.js'
import { runModel } from './model-run.js'

const ops = fc.array(op, { minLength: 60, maxLength: 120, size: 'max' })

test.each([
  ['durable', { defers: false, maxRetention: null }],
  ['deferred in part, with a retention of the spool', { defers: true, maxRetention: 5000 }],
] as const)('what the spool does is what the model says: %s', { timeout: 120_000 }, (_, options) =>
  fc.assert(
    fc.asyncProperty(ops, async (ops) => void (await runModel(ops, options))),
    { numRuns: 1, endOnFailure: process.env.MODEL_SHRINK === undefined },
  ),
)
