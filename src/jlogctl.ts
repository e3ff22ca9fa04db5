#!/usr/bin/env node
/** `jlogctl`: a drop-in for libjlog's. */
import { jlogctl } from './jlogctl/run.js'
import { print, printError, runTool } from './tool.js'

await runTool('jlogctl', () => jlogctl(process.argv.slice(2), { out: print, err: printError }))
