// The baseline of http-inject: a Fastify route that reads its body and answers with as many bytes, and does nothing.
import Fastify from 'fastify'

const app = Fastify()
app.addContentTypeParser(
  'message/rfc822',
  { parseAs: 'buffer', bodyLimit: 1 << 20 },
  (_request, body, done) => done(null, body),
)
app.post('/v1/messages', async (request, reply) => {
  reply.code(201)
  return {
    result: 'complete',
    ids: ['019a0000-0000-7000-8000-000000000000'],
    size: request.body.length,
    sha256: '0'.repeat(64),
  }
})
const address = await app.listen({ host: '127.0.0.1', port: 0 })
console.log(JSON.stringify({ msg: 'ready', address }))
process.once('SIGTERM', () => app.close())
