/** The options that the programs share, and how they override the configuration. */
import type { Command } from 'commander';
import type { Assignment, LoadedConfiguration } from './config/load.js';

export interface ConfigurationFlags {
  readonly config?: string;
  readonly set?: readonly string[];
}

export interface DaemonFlags extends ConfigurationFlags {
  readonly addressFile?: string;
  readonly logLevel?: string;
  readonly logFile?: string;
  readonly metricsPort?: string;
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

export function addConfigurationFlags(command: Command): Command {
  return command
    .option('-c, --config <file>', 'configuration in TOML; see docs/configuration.md (default: $GFS_CONFIG)')
    .option('--set <section.key=value>', 'one value of the configuration; may be repeated', collect);
}

export function addDaemonFlags(command: Command): Command {
  return addConfigurationFlags(command)
    .option('--address-file <file>', 'write {pid, host, port} there as JSON, once it has started')
    .option('--log-level <level>', 'debug, info, warn or error')
    .option('--log-file <file>', 'append the log to a file (default: standard error)')
    .option('--metrics-port <port>', 'serve Prometheus metrics at http://HOST:PORT/metrics');
}

/** `{ port: '5001' }` with `{ port: 'master.port' }` is the assignment `master.port=5001` by `--port`. */
export function assignmentsOf(
  flags: Readonly<Record<string, unknown>>,
  keys: Readonly<Record<string, string>>,
): Assignment[] {
  return Object.entries(keys).flatMap(([flag, key]) => {
    const value = flags[flag];
    if (value === undefined) return [];
    const option = `--${flag.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    return [{ text: `${key}=${tomlOf(value)}`, option }];
  });
}

function tomlOf(value: unknown): string {
  return Array.isArray(value) ? JSON.stringify(value) : String(value);
}

/** `1.5,2` as `[1.5, 2]`. What is not that stays as it is, for the configuration to refuse. */
export function coordinates(text: string): string {
  return text.includes('[') ? text : `[${text}]`;
}

/** @throws ConfigurationError */
export async function loadWith(
  flags: ConfigurationFlags & { readonly logLevel?: string; readonly logFile?: string },
  assignments: readonly Assignment[] = [],
): Promise<LoadedConfiguration> {
  const { loadConfiguration } = await import('./config/load.js');
  return loadConfiguration({
    file: flags.config ?? process.env.GFS_CONFIG,
    environment: process.env,
    assignments: [
      ...(flags.set ?? []).map((text) => ({ text, option: '--set' })),
      ...assignmentsOf({ ...flags }, { logLevel: 'log.level', logFile: 'log.file' }),
      ...assignments,
    ],
  });
}

/** For commands that ask the master in a session. */
export function addMasterFlags(command: Command): Command {
  return addConfigurationFlags(command).option(
    '-m, --master <host:port>',
    'the master (default: that of the mount, or of the configuration)',
    collect,
  );
}
