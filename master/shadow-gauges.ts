/** What a shadow tells of itself on its metrics page. */
import type { Metrics } from '../environment/ports/index.js';
import type { Following } from './following.js';
import type { LogCopy } from './log-copy.js';
import type { StandIn } from './stand-in.js';

export interface ShadowGaugeSources {
  readonly copy: LogCopy;
  readonly following: Following;
  readonly standIn: StandIn;
}

export function shadowGauges(
  metrics: Metrics,
  { copy, following, standIn }: ShadowGaugeSources,
): { update(): void } {
  const records = metrics.gauge('gfs_shadow_log_records', 'Records in the copy of the operation log');
  const behindMs = metrics.gauge(
    'gfs_shadow_behind_ms',
    'How old what the shadow says may be, while the master is there',
  );
  const silentMs = metrics.gauge('gfs_shadow_master_silent_ms', 'Since the master was heard of');
  const standsIn = metrics.gauge(
    'gfs_shadow_stands_in',
    'Whether it answers reads for a master that is away',
  );
  return {
    update() {
      records.set(copy.endSequence);
      behindMs.set(following.behindMs);
      silentMs.set(following.silentMs);
      standsIn.set(Number(standIn.serves));
    },
  };
}
