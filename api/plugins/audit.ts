/**
 * Every administrative act in the log of such acts: who did what, from where, and what came of it. What takes the scope admin and
 * changes something is one, and so is what a route says is one. The record is durable before the answer goes out; an act that
 * a crash cuts off before its answer may have been done without one. An act whose record cannot be written is not undone, nor is
 * repair refused when the disk is full: the record goes into the service's own log instead, as an error.
 */
import type { FastifyPluginAsync, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import type { Jobs } from '../../spool/index.js'
import { type RouteScope, scopesOf } from '../caller.js'
import type { MessageStore } from '../stores.js'
import { cut, peerOf } from './peer.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether this request is an administrative act; left out: when its scope is admin and it is no GET. */
    audit?: (request: FastifyRequest) => boolean
  }
}

export interface AuditOptions {
  readonly spool: Pick<MessageStore, 'log'>
  readonly jobs: Jobs
}

const JOB = /^\/v1\/jobs\/([^/]+)$/
/** Refused before it was known what is asked for: see refusals.ts; or too often. */
const NOT_TRIED = new Set([401, 403, 429])

const register: FastifyPluginAsync<AuditOptions> = async (app, { spool, jobs }) => {
  const pending = new Set<Promise<void>>()

  const record = (request: FastifyRequest, note: string): Promise<void> => {
    const { log, caller, id } = request
    const event = { user: caller.name, peer: peerOf(request), connectionId: cut(id, 64), note }
    const recording = spool
      .log({ type: 'administration', ...event })
      .catch((err: unknown) => log.error({ err, ...event }, 'not in the log of administration'))
      .finally(() => pending.delete(recording))
    pending.add(recording)
    return recording
  }

  const watch = (request: FastifyRequest, name: string, id: string) => {
    const watching = jobs
      .wait(id)
      .then((job) => {
        if (job === undefined) return
        const outcome = job.error === null ? job.state : `${job.state} ${job.error.code}`
        return record(request, `${name} job ${id}: ${outcome}`)
      })
      .finally(() => pending.delete(watching))
    pending.add(watching)
  }

  app.addHook('onRoute', (route) => {
    const { audit = isAdministration(route) ? () => true : undefined } = route.config ?? {}
    if (audit === undefined) return
    const name = (route.schema as { operationId?: string } | undefined)?.operationId ?? route.url
    const hook = async (request: FastifyRequest, reply: FastifyReply, payload: unknown) => {
      const { statusCode } = reply
      if (!NOT_TRIED.has(statusCode) && audit(request)) {
        await record(request, `${name} ${targetOf(request)}: ${outcomeOf(statusCode, payload)}`)
        const [, job] = JOB.exec(String(reply.getHeader('location') ?? '')) ?? []
        if (statusCode === 202 && job !== undefined) watch(request, name, job)
      }
      return payload
    }
    route.onSend = [...[route.onSend ?? []].flat(), hook]
  })

  app.addHook('onClose', async () => {
    while (pending.size > 0) await Promise.all(pending)
  })
}

export const audit = fp(register, { name: 'audit', dependencies: ['auth'] })

const READING = new Set(['GET', 'HEAD', 'OPTIONS'])

function isAdministration({ method, config }: RouteOptions): boolean {
  const reads = [method].flat().every((name) => READING.has(name))
  return !reads && scopesOf((config?.scope ?? 'open') as RouteScope).includes('admin')
}

const MAX_TARGET = 1000
const MAX_BODY = 500

/** The address, and what was asked of it when that is a few words of JSON. */
function targetOf({ url, body }: FastifyRequest): string {
  const target = cut(url, MAX_TARGET)
  const isObject = Object.getPrototypeOf(body ?? 0) === Object.prototype
  return isObject ? `${target} ${cut(JSON.stringify(body), MAX_BODY)}` : target
}

function outcomeOf(status: number, payload: unknown): string {
  if (status < 400) return `${status}`
  try {
    const { code } = JSON.parse(String(payload)) as { code?: string }
    return `${status} ${code ?? ''}`.trim()
  } catch {
    return `${status}`
  }
}
