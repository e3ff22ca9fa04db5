#!/usr/bin/env node
/** `bobbin`: the command line. */
import { Command } from 'commander'
import { addInject } from './commands/inject.js'
import { addJlog } from './commands/jlog.js'
import { addServe } from './commands/serve.js'
import { addSpool } from './commands/spool.js'
import { runProgram } from './program.js'
import { VERSION } from './version.js'

const program = new Command('bobbin')
  .description('A durable, journaled spool and log store for mail servers.')
  .version(VERSION, '-V, --version')
  .option('--debug', 'show the stack trace of an error')

addServe(program)
addInject(program)
addSpool(program)
addJlog(program)

await runProgram(program)
