/** Claims: due messages leased to a front end. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { metaToJson } from '../message-json.js'
import { Empty, MessageId, MetaRef, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'

const MAX_LEASE_SECONDS = 43_200

const LeaseSeconds = Type.Number({
  exclusiveMinimum: 0,
  maximum: MAX_LEASE_SECONDS,
  default: 300,
  description: 'After so long the messages are due again by themselves.',
})
const Lease = Type.String({
  description: 'The token: extends, releases, and goes with the reports on the messages.',
  examples: ['0195b3a2-7c4e-7d7a-9f57-1c9c0c1f6a42'],
})
const Until = Type.String({
  description: 'When the lease ends, RFC 3339',
  examples: ['2026-03-01T12:05:00.000Z'],
})
const Params = Type.Object({
  token: Type.String({ description: 'The lease, as a claim gave it.' }),
})

export const claimRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, { spool }) => {
  app.post(
    '/claims',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'claim',
        summary: 'Claim due messages',
        description:
          'Leases messages that are due, first due first. None of them is given to anybody else while the lease holds, restarts included. Claims are answered in the order in which they come.',
        tags: ['claims'],
        body: Type.Object(
          {
            limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
            lease_seconds: LeaseSeconds,
            domain: Type.Optional(
              Type.String({ maxLength: 1024, description: "Recipients' domain" }),
            ),
            binding: Type.Optional(Type.String({ maxLength: 255 })),
            owner: Type.Optional(
              Type.String({ maxLength: 255, description: 'Who claims; kept with the claim.' }),
            ),
          },
          {
            additionalProperties: false,
            examples: [{ limit: 100, lease_seconds: 300, domain: 'example.com' }],
          },
        ),
        response: {
          200: Type.Object({
            lease: Type.Union([Lease, Type.Null()], { description: 'null when nothing was due' }),
            until: Until,
            messages: Type.Array(
              Type.Intersect([Type.Object({ lease: Lease }), MetaRef]) as unknown as typeof MetaRef,
            ),
          }),
          ...problems(400, 503, 507),
        },
      },
    },
    async ({ body }) => {
      const { limit, lease_seconds: leaseSeconds, domain, binding, owner } = body
      const claim = await spool.claim({ limit, leaseSeconds, domain, binding, owner })
      const lease = claim.lease ?? ''
      return {
        lease: claim.lease,
        until: new Date(claim.until).toISOString(),
        messages: claim.messages.map((meta) => ({ ...metaToJson(meta), lease })),
      }
    },
  )

  app.patch(
    '/claims/:token',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'claim_extend',
        summary: 'Extend a claim',
        description: 'The lease ends so many seconds from now, sooner or later than before.',
        tags: ['claims'],
        params: Params,
        body: Type.Object({ lease_seconds: LeaseSeconds }, { additionalProperties: false }),
        response: {
          200: Type.Object({
            lease: Lease,
            until: Until,
            ids: Type.Array(MessageId, { description: 'Messages that it still holds.' }),
          }),
          ...problems(400, 404, 503, 507),
        },
      },
    },
    async ({ params, body }) => {
      const { lease, until, ids } = await spool.extendClaim(params.token, body.lease_seconds)
      return { lease, until: new Date(until).toISOString(), ids }
    },
  )

  app.delete(
    '/claims/:token',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'claim_release',
        summary: 'Release a claim',
        description: 'Its messages are due again at once.',
        tags: ['claims'],
        params: Params,
        response: { 204: Empty, ...problems(404, 503, 507) },
      },
    },
    async (request, reply) => {
      await spool.releaseClaim(request.params.token)
      return reply.code(204).send(null)
    },
  )
}
