/** Journals that are deleted while something is done with them. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { problemOf } from './problem.js'
import type { JournalStore } from './stores.js'

/**
 * An error handler for routes over the journal `:name`, before the one of all routes: where the journal is not there any
 * more, that is the answer (404), and not what broke when it went.
 */
export function tellDeleted(journals: JournalStore) {
  return async (error: FastifyError, request: FastifyRequest, _reply: FastifyReply) => {
    const { name } = request.params as { name?: string }
    if (name !== undefined && problemOf(error).status >= 500) await journals.path(name)
    throw error
  }
}
