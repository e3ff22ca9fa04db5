/** Jobs: the long operations, started by a POST elsewhere, polled and cancelled here. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import Type, { type Static } from 'typebox'
import type { Job } from '../../spool/index.js'
import { HttpError } from '../problem.js'
import { IdParams, JobRef, type JobSchema, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'

export const jobRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, { jobs }) => {
  app.get(
    '/jobs',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'job_list',
        summary: 'Jobs, newest first',
        description: 'Those that run, and the last hundred that have ended.',
        tags: ['jobs'],
        response: { 200: Type.Object({ jobs: Type.Array(JobRef) }) },
      },
    },
    async () => ({ jobs: jobs.list().map(jobToJson) }),
  )

  app.get(
    '/jobs/:id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'job_poll',
        summary: 'State and progress of a job',
        tags: ['jobs'],
        params: IdParams,
        response: { 200: JobRef, ...problems(404) },
      },
    },
    async (request) => {
      const job = jobs.get(request.params.id)
      if (job === undefined) throw noJob(request.params.id)
      return jobToJson(job)
    },
  )

  app.delete(
    '/jobs/:id',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'job_cancel',
        summary: 'Cancel a job',
        description:
          'Answers when it has stopped, with how it ended; what it has done by then stays done. A job that has ended is left as it is.',
        tags: ['jobs'],
        params: IdParams,
        response: { 200: JobRef, ...problems(404) },
      },
    },
    async (request) => {
      const { id } = request.params
      await jobs.cancel(id)
      const job = jobs.get(id)
      if (job === undefined) throw noJob(id)
      return jobToJson(job)
    },
  )
}

/** The answer of a call that has started a job. */
export function accepted(reply: FastifyReply, job: Job): Static<typeof JobSchema> {
  reply.code(202).header('location', `/v1/jobs/${job.id}`)
  return jobToJson(job)
}

export function jobToJson(job: Job): Static<typeof JobSchema> {
  return {
    id: job.id,
    kind: job.kind,
    state: job.state,
    started: new Date(job.started).toISOString(),
    ended: job.ended === null ? null : new Date(job.ended).toISOString(),
    progress: job.progress,
    result: job.result,
    error: job.error,
  }
}

function noJob(id: string): HttpError {
  return new HttpError(404, 'JOB_NOT_FOUND', `there is no job ${id}`)
}
