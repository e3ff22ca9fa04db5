/**
 * Preloaded into a process: kills it (SIGKILL) just before its nth call that changes anything on the disk, so that a
 * test can stop it at each of them in turn. `KILL_AT` is n; 0 never.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const at = Number(process.env.KILL_AT ?? 0)
let calls = 0

function watch(owner, name) {
  const real = owner[name]
  owner[name] = (...args) => {
    calls++
    if (calls === at) process.kill(process.pid, 'SIGKILL')
    return real.apply(owner, args)
  }
}

for (const name of ['write', 'writev', 'ftruncate', 'fdatasync', 'fsync']) watch(fs, name)
for (const name of ['rename', 'link', 'unlink', 'writeFile']) watch(fs.promises, name)
syncBuiltinESMExports()
