/** `gfs`: runs one command, and turns whatever comes of it into a message and an exit code. */
import { readFileSync } from 'node:fs';
import { type Command, CommanderError } from 'commander';
import { codeOf, EXIT_FAILED, EXIT_USAGE, Failure } from './failure.js';
import { makeProgram } from './program.js';
import { described } from './reasons.js';

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
    const program = makeProgram(version());
    await program.parseAsync(asked(program, words), { from: 'user' });
  } catch (error) {
    process.exitCode = report(error);
  }
}

/** Asked for the help of a command that is not there, Commander would show that of all, and call it a success. */
function asked(program: Command, words: readonly string[]): string[] {
  const name = words[0] ?? '';
  const isThere =
    [...program.commands, program].some((command) => command.name() === name) || name === 'help';
  if (name.startsWith('-') || isThere) return [...words];
  return words.filter((word) => word !== '-h' && word !== '--help');
}

/** Faults of ours, whose stack says more than their message. Everything else is meant for the user. */
const FAULTS = new Set(['TypeError', 'RangeError', 'ReferenceError', 'SyntaxError', 'InvariantError']);

/** @returns the exit code */
function report(error: unknown): number {
  // Commander has said what is wrong, or shown the help that was asked for.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  process.stderr.write(`gfs: ${describe(error)}\n`);
  return error instanceof Failure ? error.exitCode : EXIT_FAILED;
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (FAULTS.has(error.name)) return error.stack ?? error.message;
  return described(error);
}
