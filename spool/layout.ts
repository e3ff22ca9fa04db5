/**
 * How the spool lies in LMDB: the one place that knows its bytes, with a file for each kind of row.
 * Integers are big-endian, so that keys sort by number. The databases:
 *
 *     messages  id (16)                                → meta record: fixed header, then msgpack
 *     chunks    body id (16), n (4)                    → up to 16,000 bytes of the body, or those bytes packed:
 *                                                        shorter, and begun by a codec (chunk-codec.ts)
 *     refs      body id (16)                           → messages that share the body (4); no row means one
 *     staged    body id (16)                           → a body without message: being taken in, or to be deleted
 *     queue     due (6) id (16)                        → binding 0 domain; the index by due time, a leased
 *                                                        message standing where its lease ends
 *     lanes     0 binding 0 due (6) id (16)            → domain; the index by binding and by domain,
 *               1 domain 0 binding 0 due (6) id (16)   → ''; behind `queue` by what `lanelog` has
 *     lanelog   n (8)                                  → what a commit changed of `queue` (lanes.ts)
 *     leases    't' token (16)                         → a claim: its end, its messages
 *               'u' end (6) token (16)                 → ''; the claims by their ends
 *     expiry    time (6) id (16)                       → ''; messages with a retention of their own
 *     idempotency  'y' hash (16)                       → what was stored under a caller's key
 *               'z' end (6) hash (16)                  → ''; those rows by when they end
 *     outbox    journal 0 first seq (8)                → the log records of one commit, packed
 *     imports   'i' source (16) 0 (16)                 → how far the import of a source is
 *               'i' source (16) message (16)           → what became of one of its messages
 *     state     a name                                 → counters, and a row for each journal
 *
 * A chunk of 16,000 bytes takes four pages and no more, so freed space fits whatever comes next. Records
 * carry a version and name their fields by position: a structure shared between records would have to be
 * as durable as each of them, and LMDB stores it apart.
 */
/** 3: chunks may be packed. A spool of format 2 becomes one when it is opened to pack them. */
export const FORMAT_VERSION = 3
export const FORMAT_UNPACKED = 2

export * from './layout-body.js'
export { cut, pack, unpack } from './layout-bytes.js'
export * from './layout-claim.js'
export * from './layout-idempotency.js'
export * from './layout-import.js'
export * from './layout-meta.js'
export * from './layout-queue.js'
export * from './layout-state.js'
