/** Where the master is, as a command line tells it. */
import { DEFAULT_MASTER_PORT } from '../config/keys.js';
import type { Assignment } from '../config/load.js';
import { BadValue, parseHostPort, showHostPort } from '../config/values.js';
import { UsageFailure } from '../failure.js';

/** `--master A,B --master C` as `cluster.masters`. @throws UsageFailure */
export function mastersAssignment(texts: readonly string[] | undefined): Assignment[] {
  if (texts === undefined) return [];
  try {
    const masters = texts
      .flatMap((text) => text.split(','))
      .map((text) => parseHostPort(text, DEFAULT_MASTER_PORT));
    return [{ text: `cluster.masters=${JSON.stringify(masters.map(showHostPort))}`, option: '--master' }];
  } catch (error) {
    if (error instanceof BadValue) throw new UsageFailure(`--master must be ${error.message}`);
    throw error;
  }
}
