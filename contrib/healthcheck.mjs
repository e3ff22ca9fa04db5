// Exit status 0 when the service of this container answers, whether it speaks HTTP or HTTPS: for HEALTHCHECK in the Dockerfile.
import { get } from 'node:http'
import { get as getSecure } from 'node:https'

const listen = process.env.BOBBIN_LISTEN ?? '127.0.0.1:8025'
const target = listen.startsWith('unix:')
  ? { socketPath: listen.slice('unix:'.length) }
  : { host: '127.0.0.1', port: listen.slice(listen.lastIndexOf(':') + 1) }
const isSecure = Boolean(process.env.BOBBIN_SECURITY_TLS_CERT)

// The certificate is for others: this asks the process beside it whether it lives.
const request = (isSecure ? getSecure : get)(
  { ...target, path: '/healthz', timeout: 4000, rejectUnauthorized: false },
  (response) => {
    response.resume()
    process.exitCode = response.statusCode === 200 ? 0 : 1
  },
)
request.on('timeout', () => request.destroy(new Error('no answer within 4 s')))
request.on('error', (error) => {
  console.error(error.message)
  process.exitCode = 1
})
