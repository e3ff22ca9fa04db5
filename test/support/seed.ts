// TEST_SEED=n makes the generated inputs of the property tests the same in each run; without it they are others each time.
import fc from 'fast-check'

const { TEST_SEED } = process.env

if (TEST_SEED !== undefined) {
  fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(TEST_SEED) })
}
