import { UsageError } from './program.js'

/** A setting, or a file that one names, is wrong. */
export class ConfigError extends UsageError {
  override readonly name = 'ConfigError'
  readonly code = 'CONFIG_ERR_INVALID'
}
