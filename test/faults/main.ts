/**
 * `npm run test:faults -- [--case WORDS] [--mib N] [--chunks N] [--lenient]`: a cluster of real processes on hosts
 * of its own (network namespaces), mounted, for each fault; what was promised must hold, and what was
 * measured stands beside what is aimed for. Needs root, /dev/fuse, ip(8) and tc(8).
 *
 * Ends with 1 when a promise is broken or an aim is missed; with --lenient a missed aim, which may be the
 * machine's doing, is only told.
 */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { cases, type FaultCase, type Sizes } from './cases.js';
import { Broken } from './files.js';
import { cannotMakeHosts } from './hosts.js';

const HELP = `usage: npm run test:faults -- [OPTION…]
  --case WORDS   only the faults whose names have this in them
  --mib N        size of the large file (1024)
  --chunks N     chunks to heal (4000)
  --lenient      a missed aim is told and is no failure; broken promises always are
`;

const { values } = parseArgs({
  options: {
    /** Only those whose names have this in them. */
    case: { type: 'string', default: '' },
    mib: { type: 'string', default: '1024' },
    chunks: { type: 'string', default: '4000' },
    /** Missed aims are told, and are no failure. */
    lenient: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}

interface Row {
  readonly name: string;
  readonly aim: string;
  readonly measured: string;
  readonly verdict: 'holds' | 'aim missed' | 'BROKEN' | 'not run';
}

async function runCase({ name, aim, run }: FaultCase, sizes: Sizes): Promise<Row> {
  process.stdout.write(`${name} …\n`);
  try {
    const { told, isWithinAim = true } = await run(sizes);
    return { name, aim, measured: told, verdict: isWithinAim ? 'holds' : 'aim missed' };
  } catch (thrown) {
    const { message } = thrown as Error;
    const what = thrown instanceof Broken ? message : `it could not be measured: ${message}`;
    return { name, aim, measured: what.slice(0, 400), verdict: 'BROKEN' };
  }
}

function reasonNotToRun({ name }: FaultCase): string | undefined {
  const reason = cannotMakeHosts();
  if (reason !== false) return reason;
  if (name.includes('stress-ng') && !existsSync('/usr/bin/stress-ng')) return 'there is no stress-ng(1)';
  return undefined;
}

// What was made is removed then.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));

const sizes = { fileMib: Number(values.mib), chunks: Number(values.chunks) };
const rows: Row[] = [];
for (const each of cases) {
  const { name, aim } = each;
  if (!name.includes(values.case)) {
    rows.push({ name, aim, measured: `not chosen by --case ${values.case}`, verdict: 'not run' });
    continue;
  }
  const reason = reasonNotToRun(each);
  const row: Row =
    reason === undefined ? await runCase(each, sizes) : { name, aim, measured: reason, verdict: 'not run' };
  process.stdout.write(`  ${row.verdict}: ${row.measured}\n`);
  rows.push(row);
}
const table = new Table({
  head: ['fault', 'aim', 'measured', ''],
  wordWrap: true,
  colWidths: [44, 32, 50, 12],
});
for (const { name, aim, measured, verdict } of rows) table.push([name, aim, measured, verdict]);
process.stdout.write(`${table.toString()}\n`);
const count = (verdict: Row['verdict']) => rows.filter((row) => row.verdict === verdict).length;
process.stdout.write(
  `${count('holds')} hold, ${count('aim missed')} aims missed, ${count('BROKEN')} broken, ${count('not run')} not run\n`,
);
if (count('BROKEN') > 0 || (!values.lenient && count('aim missed') > 0)) process.exitCode = 1;
