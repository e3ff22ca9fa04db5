import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { startService, temporaryDirectory } from '../support/service.js'

/** What systemd is told, a line each, until it is told that the service stops. Node.js has no such sockets. */
const LISTENER = `
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
print('bound', flush=True)
while True:
    data, control, _, _ = listener.recvmsg(4096, 1024)
    for _, _, fds in control:
        for at in range(0, len(fds), 4): os.close(int.from_bytes(fds[at:at + 4], sys.byteorder))
    print(data.decode(), flush=True)
    if b'STOPPING=1' in data: break
`

it('tells systemd when it takes requests, and when it stops', async ({ skip }) => {
  const have = (program: string) =>
    promisify(execFile)(program, ['--version']).then(
      () => true,
      () => false,
    )
  for (const program of ['systemd-notify', 'python3']) {
    if (!(await have(program))) skip(`no ${program}`)
  }
  const socket = join(await temporaryDirectory(), 'notify')
  const listener = spawn('python3', ['-c', LISTENER, socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const told: string[] = []
    // What it said last has been read then.
    const ended = once(listener, 'close')
    const lines = createInterface({ input: listener.stdout })
    await once(lines, 'line')
    lines.on('line', (line) => told.push(line))
    const service = await startService(await temporaryDirectory(), { NOTIFY_SOCKET: socket })
    await expect.poll(() => told, { timeout: 10_000 }).toContain('READY=1')
    expect(told).not.toContain('STOPPING=1')
    expect(await service.kill('SIGTERM')).toEqual({ code: 0, signal: null })
    await ended
    expect(told).toContain('STOPPING=1')
  } finally {
    listener.kill('SIGKILL')
  }
})

it('runs all the same where systemd cannot be told', async () => {
  const { log, kill } = await startService(await temporaryDirectory(), {
    NOTIFY_SOCKET: '/nonexistent/notify',
  })
  await expect
    .poll(() => log.map(({ msg }) => msg), { timeout: 10_000 })
    .toContain('systemd could not be told')
  expect(await kill('SIGTERM')).toEqual({ code: 0, signal: null })
})
