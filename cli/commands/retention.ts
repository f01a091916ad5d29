/** `gfs retention`. */
import { parseDuration, showDuration } from '../../protocol/duration.js';
import { codeOf, Failure, UsageFailure } from '../failure.js';
import { print, printJson } from '../output.js';
import { explain, getXattr, requireGfs, setXattr } from '../powers.js';

/** What the mount takes at most. */
const MAX_MS = 3650 * 86_400_000;

export interface RetentionFlags {
  readonly json?: boolean;
}

/** Shows or sets how long a file, or what is made in a directory, is kept after its deletion. */
export async function retention(
  path: string,
  value: string | undefined,
  flags: RetentionFlags,
): Promise<void> {
  requireGfs(path);
  if (value !== undefined && value !== 'default' && parseDuration(value) === undefined) {
    throw new UsageFailure(
      `${value}: not a time`,
      'As in: gfs retention DIR 3d (units ms, s, m, h, d; 0: not kept; default: as the cluster)',
    );
  }
  try {
    if (value !== undefined) await setXattr(path, 'user.gfs.retention', Buffer.from(value));
    else {
      const text = (await getXattr(path, 'user.gfs.retention')).toString();
      if (flags.json === true) printJson({ path, retention: text, retentionMs: parseDuration(text) });
      else print(text);
    }
  } catch (error) {
    if (codeOf(error) === 'EINVAL')
      throw new Failure(`${path}: neither a file nor a directory, or more than ${showDuration(MAX_MS)}`);
    throw explain(error, path);
  }
}
