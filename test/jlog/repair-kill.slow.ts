import { afterAll, expect, it } from 'vitest'
import { removeTemporaryDirectories } from './repair-helpers.js'
import { killEverywhere, UNBUILT } from './repair-kill-helpers.js'

afterAll(removeTemporaryDirectories)

for (const live of ['middle', 'tail'] as const) {
  const name = `a repair killed at every call, damage in the ${live} of the live segment`
  it.skipIf(UNBUILT)(`${name}${UNBUILT}`, { timeout: 600000 }, async () => {
    expect(await killEverywhere(live, 1)).toBeGreaterThan(30)
  })
}
