/**
 * The file of LMDB, read without LMDB, so that no damage in it can do more than be found: the pages of
 * the newest commit, walked from its meta page, and what a walk cannot reach any more, found by looking at each page.
 * Only for a file at rest. The format is that of LMDB as lmdb-js 3 has it (little-endian, 64 bit):
 *
 *     page      number (8), transaction (8), 0 (2), flags (2), end of pointers (2), end of room (2);
 *               of an overflow page the last four bytes say how many pages it has
 *     meta      after that: magic (4), version (4), address (8), map size (8), two trees, last page (8),
 *               transaction (8)
 *     tree      page size or 0 (4), flags (2), depth (2), branch, leaf and overflow pages, entries, root (8 each)
 *     node      size low, size high (2, 2), flags (2), key size (2), key, value; of a branch the first three
 *               are a page number
 */
import { type FileHandle, open } from 'node:fs/promises'

const HEADER = 24
const NODE = 8
const MAGIC = 0xbeefc0de
const VERSION = 2
const BRANCH = 1
const LEAF = 2
const OVERFLOW = 4
const BIG = 1
const SUB = 2
const NONE = 2 ** 53
const MAX_DEPTH = 32
const NOT_READ = Buffer.alloc(0)
const DEFAULT_PAGE = 4096

export interface Tree {
  readonly entries: number
  readonly root: number
}

export interface Meta {
  readonly transaction: number
  readonly lastPage: number
  readonly free: Tree
  readonly main: Tree
}

/** A row as it lies in a leaf. `value` null: the pages it lies in are damaged. */
export interface LeafRow {
  readonly key: Buffer
  readonly value: Buffer | null
  readonly isTree: boolean
}

export interface Page {
  readonly number: number
  readonly transaction: number
  readonly flags: number
  readonly bytes: Buffer
}

export class PageFile {
  readonly pageSize: number
  readonly pages: number
  /** Made, and never written to. */
  readonly isNew: boolean
  /** Meta pages that can be read, newest first. */
  readonly metas: readonly Meta[]
  readonly #file: FileHandle

  private constructor(file: FileHandle, pageSize: number, size: number, metas: readonly Meta[]) {
    this.#file = file
    this.pageSize = pageSize
    this.pages = Math.floor(size / pageSize)
    this.isNew = size === 0
    this.metas = metas
  }

  static async open(path: string): Promise<PageFile> {
    const file = await open(path, 'r')
    try {
      const { size } = await file.stat()
      const head = Buffer.alloc(HEADER + 4096)
      await file.read(head, 0, head.length, 0)
      const stated = head.readUInt32LE(HEADER + 24)
      const isSize = stated >= 512 && stated <= 65_536 && (stated & (stated - 1)) === 0
      const pageSize = isSize && head.readUInt32LE(HEADER) === MAGIC ? stated : DEFAULT_PAGE
      const metas: Meta[] = []
      for (const number of [0, 1]) {
        const page = Buffer.alloc(pageSize)
        const { bytesRead } = await file.read(page, 0, pageSize, number * pageSize)
        const meta = bytesRead === pageSize ? readMeta(page, pageSize) : undefined
        if (meta !== undefined) metas.push(meta)
      }
      metas.sort((a, b) => b.transaction - a.transaction)
      return new PageFile(file, pageSize, size, metas)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  close(): Promise<void> {
    return this.#file.close()
  }

  /** undefined for what is no branch, leaf or overflow page of that number. */
  async page(number: number): Promise<Page | undefined> {
    const bytes = await this.#read(number, 1)
    if (bytes === undefined || readNumber(bytes, 0) !== number) return undefined
    const flags = bytes.readUInt16LE(18) & (BRANCH | LEAF | OVERFLOW)
    if (flags !== BRANCH && flags !== LEAF && flags !== OVERFLOW) return undefined
    if (bytes.readUInt16LE(16) !== 0) return undefined
    return { number, transaction: readNumber(bytes, 8), flags, bytes }
  }

  /** Pages below a branch, and whether all of its pointers were sound. */
  children({ bytes }: Page): { pages: number[]; isWhole: boolean } {
    const pages: number[] = []
    const { nodes, isWhole } = this.#nodes(bytes)
    for (const at of nodes) {
      pages.push(bytes.readUInt32LE(at) + bytes.readUInt16LE(at + 4) * 2 ** 32)
    }
    return { pages, isWhole }
  }

  /**
   * The rows of a leaf, and whether all of it was sound. `onOverflow` is told of pages that values lie in; they
   * are empty when they are not to be read.
   */
  async rows(
    { bytes }: Page,
    onOverflow: (page: number, count: number) => boolean = () => true,
    readsValues = true,
  ): Promise<{ rows: LeafRow[]; isWhole: boolean }> {
    const rows: LeafRow[] = []
    const { nodes, isWhole: areWhole } = this.#nodes(bytes)
    let isWhole = areWhole
    for (const at of nodes) {
      const size = bytes.readUInt16LE(at) + bytes.readUInt16LE(at + 2) * 65_536
      const flags = bytes.readUInt16LE(at + 4)
      const start = at + NODE + bytes.readUInt16LE(at + 6)
      const end = start + ((flags & BIG) === 0 ? size : 24)
      if (end > bytes.length || (flags & ~(BIG | SUB)) !== 0) {
        isWhole = false
        continue
      }
      const key = bytes.subarray(at + NODE, start)
      // LMDB takes no such key, and lmdb-js ends a range at one.
      if (key.length === 0) {
        isWhole = false
        continue
      }
      if ((flags & BIG) === 0) {
        rows.push({ key, value: bytes.subarray(start, end), isTree: (flags & SUB) !== 0 })
        continue
      }
      const value = await this.#overflow(readNumber(bytes, start), size, onOverflow, readsValues)
      rows.push({ key, value, isTree: false })
    }
    return { rows, isWhole }
  }

  async #overflow(
    number: number,
    size: number,
    onOverflow: (page: number, count: number) => boolean,
    isRead: boolean,
  ): Promise<Buffer | null> {
    const count = Math.floor((HEADER - 1 + size) / this.pageSize) + 1
    if (!(number >= 2 && number + count <= this.pages)) return null
    if (!isRead) return onOverflow(number, count) ? NOT_READ : null
    const bytes = await this.#read(number, count)
    if (bytes === undefined || readNumber(bytes, 0) !== number) return null
    if ((bytes.readUInt16LE(18) & OVERFLOW) === 0 || bytes.readUInt32LE(20) !== count) return null
    if (!onOverflow(number, count)) return null
    return bytes.subarray(HEADER, HEADER + size)
  }

  /** Where the nodes of a page begin; those that lie outside it are left out. */
  #nodes(bytes: Buffer): { nodes: number[]; isWhole: boolean } {
    const lower = bytes.readUInt16LE(20)
    const upper = bytes.readUInt16LE(22)
    const room = bytes.length - HEADER
    const isSound = lower % 2 === 0 && lower <= upper && upper <= room
    const nodes: number[] = []
    let isWhole = isSound
    // With the end of the pointers damaged nobody knows how many there are.
    for (let at = HEADER; isSound && at < HEADER + lower; at += 2) {
      const node = bytes.readUInt16LE(at) + HEADER
      const isInside = node >= HEADER + upper && node + NODE <= bytes.length
      if (isInside && node + NODE + bytes.readUInt16LE(node + 6) <= bytes.length) nodes.push(node)
      else isWhole = false
    }
    return { nodes, isWhole }
  }

  async #read(number: number, count: number): Promise<Buffer | undefined> {
    if (!(number >= 0 && number + count <= this.pages)) return undefined
    const bytes = Buffer.allocUnsafe(count * this.pageSize)
    const { bytesRead } = await this.#file.read(bytes, 0, bytes.length, number * this.pageSize)
    return bytesRead === bytes.length ? bytes : undefined
  }
}

/** Goes through a tree; pages that cannot be read are told, and what is below them is left out. */
export async function* leaves(
  file: PageFile,
  root: number,
  visit: (number: number) => boolean,
  onDamage: (number: number) => void,
): AsyncGenerator<Page, void, void> {
  const stack: { number: number; depth: number }[] =
    root === NONE ? [] : [{ number: root, depth: 0 }]
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { number, depth } = next
    const page = await file.page(number)
    const isTree = page !== undefined && page.flags !== OVERFLOW && depth < MAX_DEPTH
    if (!isTree || !visit(number)) {
      onDamage(number)
      continue
    }
    if (page.flags === LEAF) {
      yield page
      continue
    }
    const { pages, isWhole } = file.children(page)
    if (!isWhole) onDamage(number)
    for (const child of pages.reverse()) stack.push({ number: child, depth: depth + 1 })
  }
}

/** A row of the free tree: a length, then numbers; 0 is none, and a negative one says how many follow the next. */
export function* freePages(value: Buffer | null, pages: number): Generator<number, void, void> {
  if (value === null) return
  let run = 1
  for (let at = 8; at + 8 <= value.length; at += 8) {
    const entry = value.readBigInt64LE(at)
    if (entry < 0n) {
      run = Math.min(Number(-entry), pages)
      continue
    }
    for (let i = 0; entry > 0n && i < run; i++) yield Number(entry) + i
    run = 1
  }
}

/** The tree that a row of the main tree names. */
export function readTree(bytes: Buffer): Tree | undefined {
  if (bytes.length < 48) return undefined
  return { entries: readNumber(bytes, 32), root: readNumber(bytes, 40) }
}

function readMeta(page: Buffer, pageSize: number): Meta | undefined {
  if (page.readUInt32LE(HEADER) !== MAGIC || page.readUInt32LE(HEADER + 4) !== VERSION)
    return undefined
  if (page.readUInt32LE(HEADER + 24) !== pageSize) return undefined
  const free = readTree(page.subarray(HEADER + 24, HEADER + 72))
  const main = readTree(page.subarray(HEADER + 72, HEADER + 120))
  if (free === undefined || main === undefined) return undefined
  const lastPage = readNumber(page, HEADER + 120)
  const transaction = readNumber(page, HEADER + 128)
  return { free, main, lastPage, transaction }
}

/** 64 bits; what is beyond any page or transaction is `NONE`, as all ones are. */
export function readNumber(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32LE(at + 4)
  return high >= 2 ** 21 ? NONE : high * 2 ** 32 + bytes.readUInt32LE(at)
}

export { LEAF, NONE }
