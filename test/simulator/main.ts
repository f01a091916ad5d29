/**
 * `npm run sim -- --seed N [--count C] [--seconds S] [--settle S] [--faults kill,cut,…|none]
 * [--log] [--wire] [--minutes M] [--keep-going]`: runs seeds N to
 * N + C - 1 for S seconds of virtual time each, and stops at the first that breaks a contract.
 */
import { parseArgs } from 'node:util';
import { FAULTS, type Fault } from './faults.js';
import { simulate } from './simulation.js';
import type { SimulationResult } from './simulation-options.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '30' },
    /** Virtual seconds that the load goes on for when everything is repaired. */
    settle: { type: 'string', default: '8' },
    /** Real minutes: goes on with further seeds until they are over. */
    minutes: { type: 'string' },
    faults: { type: 'string' },
    /** Prints every line that a process logs. */
    log: { type: 'boolean', default: false },
    /** Prints every request and response. */
    wire: { type: 'boolean', default: false },
    /** Goes on after a seed that breaks a contract. */
    'keep-going': { type: 'boolean', default: false },
  },
});

function parseFaults(text: string | undefined): readonly Fault[] | undefined {
  if (text === undefined) return undefined;
  if (text === 'none') return [];
  const faults = text.split(',');
  const known: readonly string[] = FAULTS;
  const unknown = faults.find((fault) => !known.includes(fault));
  if (unknown !== undefined) throw new Error(`no fault ${unknown}: ${known.join(', ')}, or none`);
  return faults as Fault[];
}

function report(result: SimulationResult): string {
  const { seed, digest, events, succeeded, failed, acknowledged, undecided, faults } = result;
  const causes = Object.entries(faults).map(([fault, count]) => `${count} ${fault}`);
  const work = `${succeeded} operations, ${failed} failed, ${acknowledged} mutations acknowledged`;
  const open = undecided === 0 ? '' : `, ${undecided} histories undecided`;
  return `seed ${seed}: digest ${digest}, ${events} events, ${work}${open}; ${causes.join(', ') || 'no faults'}`;
}

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const faults = parseFaults(values.faults);
const first = Number(values.seed);
const endMs = values.minutes === undefined ? undefined : performance.now() + Number(values.minutes) * 60_000;
const isOver = (seed: number) =>
  endMs === undefined ? seed >= first + Number(values.count) : performance.now() > endMs;

for (let seed = first; !isOver(seed); seed++) {
  const result = await simulate({
    seed,
    durationMs: Number(values.seconds) * 1000,
    settleMs: Number(values.settle) * 1000,
    ...(faults === undefined ? {} : { faults }),
    ...(values.log ? { onLine: print } : {}),
    ...(values.wire ? { onMessage: print } : {}),
  });
  process.stdout.write(`${report(result)}\n`);
  if (result.violation === undefined) continue;
  process.stdout.write(`${(result.lastLines ?? []).join('\n')}\nseed ${seed} FAILED: ${result.violation}\n`);
  process.exitCode = 1;
  if (!values['keep-going']) break;
}
