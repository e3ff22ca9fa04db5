/**
 * A small file system of our own, in a file behind a loop device: to fill it to the last byte, or to cut
 * its power. Needs root, losetup, and mkfs; `loopMountProblem` says what is missing.
 */
import { execFile } from 'node:child_process'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export type FileSystem = 'ext4' | 'xfs'

const MKFS: Record<FileSystem, string[]> = {
  ext4: ['mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0'],
  xfs: ['mkfs.xfs', '-q', '-f'],
}

async function have(program: string): Promise<boolean> {
  return run('sh', ['-c', `command -v ${program}`]).then(
    () => true,
    () => false,
  )
}

/** Why there can be no loop mount here; null when there can. Tries one. */
export async function loopMountProblem(
  type: FileSystem,
  directory: string,
): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'not root'
  for (const program of [MKFS[type][0] as string, 'losetup', 'mount', 'umount']) {
    if (!(await have(program))) return `no ${program}`
  }
  const at = join(directory, 'probe')
  try {
    const mount = await LoopMount.make({ type, directory: at, bytes: 320 * 1024 * 1024 })
    await mount.destroy()
  } catch (error) {
    return `no loop mount: ${String((error as { stderr?: string }).stderr ?? error).trim()}`
  }
  return null
}

/** Why there can be no power cut here; null when there can. */
export async function powerCutProblem(type: FileSystem, directory: string): Promise<string | null> {
  if (!(await have('xfs_io'))) return 'no xfs_io'
  return loopMountProblem(type, directory)
}

export class LoopMount {
  /** Where the file system is mounted. */
  readonly path: string
  readonly #type: FileSystem
  readonly #image: string
  readonly #directory: string
  #device: string | undefined

  /** Makes and mounts a file system of so many bytes; XFS wants 300 MiB at least. */
  static async make(options: {
    type: FileSystem
    directory: string
    bytes: number
  }): Promise<LoopMount> {
    const mount = new LoopMount(options.type, options.directory)
    await mkdir(mount.path, { recursive: true })
    const image = await open(mount.#image, 'w')
    await image.truncate(options.bytes)
    await image.close()
    const [mkfs, ...args] = MKFS[options.type]
    await run(mkfs as string, [...args, mount.#image])
    await mount.mount()
    return mount
  }

  private constructor(type: FileSystem, directory: string) {
    this.#type = type
    this.#directory = directory
    this.#image = join(directory, 'image')
    this.path = join(directory, 'mount')
  }

  async mount(): Promise<void> {
    const { stdout } = await run('losetup', ['--find', '--show', this.#image])
    this.#device = stdout.trim()
    try {
      await run('mount', ['-t', this.#type, this.#device, this.path])
    } catch (error) {
      await this.#detach()
      throw error
    }
  }

  /** Unmounts; nobody may have a file open there. */
  async unmount(): Promise<void> {
    if (this.#device === undefined) return
    await run('umount', [this.path])
    await this.#detach()
  }

  /**
   * The power goes: from this moment nothing more reaches the disk, and what was not synced is lost.
   * With `flushLog` the file system's own log is written first, as after a crash of everything else.
   */
  async cutPower({ flushLog = false } = {}): Promise<void> {
    await run('xfs_io', ['-x', '-c', flushLog ? 'shutdown -f' : 'shutdown', this.path])
  }

  /** Unmounts and mounts again, which recovers the file system from its log. */
  async remount(): Promise<void> {
    await this.unmount()
    await this.mount()
  }

  /** Unmounts, if need be by force, and deletes the image. */
  async destroy(): Promise<void> {
    try {
      await this.unmount()
    } catch {
      await run('umount', ['-l', this.path]).catch(() => undefined)
      await this.#detach()
    }
    await rm(this.#directory, { recursive: true, force: true })
  }

  async #detach(): Promise<void> {
    if (this.#device === undefined) return
    await run('losetup', ['-d', this.#device]).catch(() => undefined)
    this.#device = undefined
  }
}
