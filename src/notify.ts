/**
 * Tells systemd how the service is (sd_notify), where it is asked to: `Type=notify` with `NotifyAccess=all`. Node.js has no
 * datagram sockets of the kind it takes, so systemd's own command says it. That it cannot be told ends nothing.
 */
import { execFile } from 'node:child_process'
import type { FastifyBaseLogger } from 'fastify'

export type ServiceState = 'READY=1' | 'STOPPING=1'

export function notify(state: ServiceState, log: FastifyBaseLogger): void {
  if (!process.env.NOTIFY_SOCKET) return
  execFile('systemd-notify', [state], (error) => {
    if (error !== null) log.warn({ err: error, state }, 'systemd could not be told')
  })
}
