#!/usr/bin/env node
/** `jlogctl`: a drop-in for libjlog's. */
import { programArguments } from './arguments.js'
import { jlogctl } from './jlogctl/run.js'
import { print, printError, runTool } from './tool.js'

await runTool('jlogctl', () => jlogctl(programArguments(), { out: print, err: printError }))
