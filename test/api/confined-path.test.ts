import { mkdir, realpath, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { confinedPath } from '../../api/confined-path.js'
import { temporaryDirectory } from '../support/service.js'

async function roots() {
  const base = await realpath(await temporaryDirectory())
  const root = join(base, 'root')
  await mkdir(join(root, 'inner'), { recursive: true })
  await mkdir(join(base, 'outer'))
  await mkdir(join(base, 'rootless'))
  return { base, root }
}

describe('a confined path', () => {
  it('may be below the root, there or not yet, relative or absolute', async () => {
    const { root } = await roots()
    expect(await confinedPath(root, 'inner', 'r')).toBe(join(root, 'inner'))
    expect(await confinedPath(root, 'inner/new', 'r')).toBe(join(root, 'inner/new'))
    expect(await confinedPath(root, join(root, 'new'), 'r')).toBe(join(root, 'new'))
    expect(await confinedPath(root, 'inner/../new', 'r')).toBe(join(root, 'new'))
    expect(await confinedPath(root, '..new', 'r')).toBe(join(root, '..new'))
  })

  it.each([
    '..',
    '.',
    '../outer',
    'inner/../../outer',
    '../rootless/x',
    '/etc/passwd',
    '/',
    './..//outer',
  ])('may not be %s', async (path) => {
    const { root } = await roots()
    await expect(confinedPath(root, path, 'r')).rejects.toMatchObject({
      statusCode: 422,
      code: 'PATH_OUTSIDE_ROOT',
    })
  })

  it('may not lead out by a symbolic link, wherever in it that is', async () => {
    const { base, root } = await roots()
    await symlink(join(base, 'outer'), join(root, 'link'))
    await symlink('../../outer', join(root, 'inner', 'up'))
    await symlink(root, join(root, 'itself'))
    for (const path of ['link', 'link/new', 'inner/up', 'itself'])
      await expect(confinedPath(root, path, 'r'), path).rejects.toMatchObject({
        code: 'PATH_OUTSIDE_ROOT',
      })
    await symlink(join(base, 'outer', 'nothing'), join(root, 'dangling'))
    await expect(confinedPath(root, 'dangling', 'r')).rejects.toMatchObject({
      code: 'PATH_NOT_FOUND',
    })
    await symlink(join(root, 'inner'), join(root, 'within'))
    expect(await confinedPath(root, 'within/new', 'r')).toBe(join(root, 'inner/new'))
  })

  it('is held against a root that is a symbolic link itself', async () => {
    const { base, root } = await roots()
    const alias = join(base, 'alias')
    await symlink(root, alias)
    expect(await confinedPath(alias, 'inner', 'r')).toBe(join(root, 'inner'))
    expect(await confinedPath(alias, join(alias, 'inner'), 'r')).toBe(join(root, 'inner'))
    await expect(confinedPath(alias, '../outer', 'r')).rejects.toMatchObject({ statusCode: 422 })
  })

  it('needs a root, and is a path', async () => {
    const { base, root } = await roots()
    await expect(confinedPath(null, 'x', 'spool.import_root')).rejects.toMatchObject({
      code: 'NO_ROOT',
      message: 'no spool.import_root is configured',
    })
    await expect(confinedPath('', 'x', 'r')).rejects.toMatchObject({ code: 'NO_ROOT' })
    await expect(confinedPath(join(base, 'gone'), 'x', 'r')).rejects.toMatchObject({
      code: 'NO_ROOT',
    })
    for (const path of ['', 'a\0b', 'x'.repeat(5000)])
      await expect(confinedPath(root, path, 'r')).rejects.toMatchObject({
        statusCode: 400,
        code: 'INVALID_PATH',
      })
    await expect(confinedPath(root, 'no/such', 'r')).rejects.toMatchObject({
      code: 'PATH_NOT_FOUND',
    })
    await expect(confinedPath(root, 'x'.repeat(300), 'r')).rejects.toMatchObject({
      code: 'PATH_NOT_FOUND',
    })
  })
})
