/** The part of fs-native-extensions that the file layer uses; the package has no types of its own. */
declare module 'fs-native-extensions' {
  /** Whole-file exclusive open-file-description lock. False when another description holds a conflicting lock. */
  export function tryLock(fd: number): boolean
  export function unlock(fd: number): void
}
