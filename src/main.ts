#!/usr/bin/env node
/** `bobbin`: the command line. A command's code is loaded when it is asked for, so that a small one starts fast. */
import { Command } from 'commander'
import { programArguments } from './arguments.js'
import { runProgram } from './program.js'
import { VERSION } from './version.js'

const COMMANDS = {
  serve: async () => (await import('./commands/serve.js')).addServe,
  inject: async () => (await import('./commands/inject.js')).addInject,
  spool: async () => (await import('./commands/spool.js')).addSpool,
  jlog: async () => (await import('./commands/jlog.js')).addJlog,
  token: async () => (await import('./commands/token.js')).addToken,
}

const program = new Command('bobbin')
  .description('A durable, journaled spool and log store for mail servers.')
  .version(VERSION, '-V, --version')
  .option('--debug', 'show the stack trace of an error')

const args = programArguments()
const asked = args.find((arg) => !arg.startsWith('-'))
for (const [name, load] of Object.entries(COMMANDS)) {
  // Without a command that there is, usage shows them all.
  if (name === asked || !Object.hasOwn(COMMANDS, asked ?? '')) (await load())(program)
}
await runProgram(program, args)
