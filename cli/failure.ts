/** How a command fails: what is told, and the exit code, as coreutils have them. */

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** A command that could not do what it was asked; the message goes to standard error as it is. */
export class Failure extends Error {
  readonly exitCode: number;

  /** @param hint what to do next, on a line of its own */
  constructor(message: string, hint?: string, exitCode: number = EXIT_FAILED) {
    super(hint === undefined ? message : `${message}\n${hint}`);
    this.exitCode = exitCode;
  }
}

/** A command that was not written as it should be. */
export class UsageFailure extends Failure {
  constructor(message: string, hint?: string) {
    super(message, hint, EXIT_USAGE);
  }
}

/** The code of one of Node's errors. */
export function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
