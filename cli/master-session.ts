/** A session with the master for the length of one command, as the user who runs it. */
import { type CallContext, GfsClient, type MasterSession } from '../client/index.js';
import { nodeEnvironment } from '../environment/node/index.js';
import { GfsError } from '../protocol/errors.js';
import { mastersAssignment } from './commands/masters.js';
import { clientOptions, mastersOf } from './config/options.js';
import { type HostPort, showHostPort } from './config/values.js';
import { Failure } from './failure.js';
import { type ConfigurationFlags, loadWith } from './flags.js';
import { placeOf } from './place.js';
import { described } from './reasons.js';

/** A command waits for a person: sooner than a mount it says that nobody answers. */
const DEADLINE_MS = 10_000;

export interface MasterFlags extends ConfigurationFlags {
  /** HOST[:PORT], repeated or separated by commas. */
  readonly master?: readonly string[];
}

/** Who runs this command: the master judges by it who may do what. */
export function caller(): CallContext {
  return { uid: process.getuid?.() ?? 0, gids: [process.getgid?.() ?? 0, ...(process.getgroups?.() ?? [])] };
}

/** Those of the mount that the user stands in, unless a configuration is named. */
export function mastersNearby(flags: ConfigurationFlags): readonly HostPort[] {
  const isConfigured =
    flags.config !== undefined || flags.set !== undefined || process.env.GFS_CONFIG !== undefined;
  return isConfigured ? [] : (placeOf('.')?.masters ?? []);
}

/**
 * Runs `work` with a session of the master that the flags name, else `nearby` (a mount's), else that of
 * the mount that the user stands in, else the configuration's. @throws Failure when none answers
 */
export async function withMaster<T>(
  flags: MasterFlags,
  nearby: readonly HostPort[],
  work: (master: MasterSession) => Promise<T>,
): Promise<T> {
  const { configuration } = await loadWith(flags, mastersAssignment(flags.master));
  const near = nearby.length > 0 ? nearby : mastersNearby(flags);
  const masters = flags.master === undefined && near.length > 0 ? near : mastersOf(configuration);
  const environment = nodeEnvironment({ role: 'gfs', logLevel: 'silent' });
  const options = { ...clientOptions(configuration), masters, deadlineMs: DEADLINE_MS, hard: false };
  let client: GfsClient;
  try {
    client = await GfsClient.connect(environment, options);
  } catch (error) {
    if (!(error instanceof GfsError)) throw error;
    throw new Failure(
      `no master answers at ${masters.map(showHostPort).join(', ')}: ${described(error)}`,
      'Is it running (gfs up, gfs master)? Another address: --master HOST:PORT',
    );
  }
  try {
    return await work(client.master);
  } finally {
    await client.shutdown();
  }
}
