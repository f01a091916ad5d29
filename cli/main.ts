/** `gfs`: runs one command, and turns whatever comes of it into a message and an exit code. */
import { readFileSync } from 'node:fs';
import { CommanderError } from 'commander';
import { codeOf, EXIT_FAILED, EXIT_USAGE, Failure } from './failure.js';
import { makeProgram } from './program.js';

function version(): string {
  // Above the sources or above dist/, wherever this is.
  for (const up of ['..', '../..', '../../..']) {
    try {
      const text = readFileSync(new URL(`${up}/package.json`, import.meta.url), 'utf8');
      return (JSON.parse(text) as { version: string }).version;
    } catch {
      // Further up.
    }
  }
  return 'unknown';
}

/** @param words the command line without `node` and the script */
export async function main(words: readonly string[]): Promise<void> {
  // `gfs status | head`: who reads no more is no error.
  process.stdout.on('error', (error: Error) => process.exit(codeOf(error) === 'EPIPE' ? 0 : EXIT_FAILED));
  try {
    await makeProgram(version()).parseAsync(words, { from: 'user' });
  } catch (error) {
    process.exitCode = await report(error);
  }
}

/** @returns the exit code */
async function report(error: unknown): Promise<number> {
  // Commander has said what is wrong, or shown the help that was asked for.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  const known = await isExpected(error);
  const text = known ? (error as Error).message : ((error as Error | undefined)?.stack ?? String(error));
  process.stderr.write(`gfs: ${text}\n`);
  return error instanceof Failure ? error.exitCode : EXIT_FAILED;
}

/** Whether its message is meant for a user; anything else is a fault of ours, whose stack says more. */
async function isExpected(error: unknown): Promise<boolean> {
  if (error instanceof Failure || codeOf(error) !== undefined) return true;
  const { ConfigurationError } = await import('./config/load.js');
  return error instanceof ConfigurationError;
}
