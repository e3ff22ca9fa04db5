/** Many who wait on one AbortSignal, with one listener on it: Node takes more than ten for a leak, and says so. */

const waiting = new WeakMap<AbortSignal, Set<() => void>>()

/**
 * Calls `callback` once, when the signal aborts.
 * @returns what takes that back
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const callbacks = waiting.get(signal) ?? listen(signal)
  const own = () => callback()
  callbacks.add(own)
  return () => callbacks.delete(own)
}

function listen(signal: AbortSignal): Set<() => void> {
  const callbacks = new Set<() => void>()
  waiting.set(signal, callbacks)
  const aborted = () => {
    for (const callback of callbacks) callback()
    callbacks.clear()
  }
  signal.addEventListener('abort', aborted, { once: true })
  return callbacks
}
