declare module 'fs-native-extensions' {
  /** Locks the whole file for this open file description; false when another holds it. */
  export function tryLock(fd: number, options?: { shared?: boolean }): boolean
  export function unlock(fd: number): void
}
