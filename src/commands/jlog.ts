/** `bobbin jlog …`: a journal directory, with or without a service that writes to it. */
import type { Command } from 'commander'
import { addAppend } from './jlog/append.js'
import { addCat, addTail } from './jlog/cat.js'
import { addClean } from './jlog/clean.js'
import { addAlter, addCreate } from './jlog/create.js'
import { addInfo } from './jlog/info.js'
import { addInspect } from './jlog/inspect.js'
import { addRepair } from './jlog/repair.js'
import { addEndian, addSanity } from './jlog/sanity.js'
import { addSubscribers } from './jlog/subscriber.js'

export function addJlog(program: Command): void {
  const jlog = program
    .command('jlog')
    .description('make, read, write and repair a journal directory (docs/jlog.md)')
  addCreate(jlog)
  addInfo(jlog)
  addAppend(jlog)
  addCat(jlog)
  addTail(jlog)
  addInspect(jlog)
  addRepair(jlog)
  addClean(jlog)
  addAlter(jlog)
  addSubscribers(jlog)
  addSanity(jlog)
  addEndian(jlog)
}
