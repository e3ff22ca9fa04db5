import { defineConfig } from 'vitest/config'

// Two projects: `fast` runs by default; `slow` (power cuts, soak, kills by the dozen) has its own script.
export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: 'fast',
          setupFiles: 'test/support/seed.ts',
          include: ['test/**/*.test.ts'],
          // An event that is awaited comes late on a machine that has much to do.
          expect: { poll: { timeout: 10_000 } },
          testTimeout: 30_000,
          hookTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'slow',
          setupFiles: 'test/support/seed.ts',
          include: [
            'test/**/*.slow.ts',
            'test/**/{kill,*-kill,*crash}.test.ts',
            'test/src/jlog-hostile.test.ts',
            'test/spool/{leases,salvage}.test.ts',
          ],
          env: { TEST_KILLS: '50', TEST_EFFORT: '10' },
          testTimeout: 1_200_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
