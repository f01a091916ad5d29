/** What a run is asked for, and what it tells. */
import type { Fault } from './faults.js';
import type { ClusterOptions } from './shape.js';

export interface SimulationOptions extends Partial<ClusterOptions> {
  readonly seed: number;
  /** Virtual time under load and faults. */
  readonly durationMs: number;
  /** And under load alone, before the first fault. */
  readonly warmUpMs?: number;
  /** After the repair, how long the load goes on before it ends. */
  readonly settleMs?: number;
  /** Which may happen; by default the seed chooses. */
  readonly faults?: readonly Fault[];
  /** How long it is from one fault to the next, on average; by default the seed chooses. */
  readonly meanIntervalMs?: number;
  /** A host crash keeps nothing that was not flushed, instead of this and that. */
  readonly losesAll?: boolean;
  /** Called with every line that any process logs. */
  readonly onLine?: (line: string) => void;
  /** Called with every request and response. */
  readonly onMessage?: (line: string) => void;
}

export interface SimulationResult {
  readonly seed: number;
  readonly digest: string;
  readonly events: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Mutations of chunks that primaries acknowledged. */
  readonly acknowledged: number;
  /** Histories of which the checker could not tell in its time whether they are linearisable. */
  readonly undecided: number;
  readonly faults: Readonly<Record<string, number>>;
  /** Shadows that became the master. */
  readonly promotions: number;
  /** Chunkservers that were drained, taken away, and replaced at the same address. */
  readonly replacements: number;
  /** What was broken; absent when all is well. */
  readonly violation?: string;
  /** The last that was logged before. */
  readonly lastLines?: readonly string[];
}
