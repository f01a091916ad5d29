import { execFileSync } from 'node:child_process';
import t from 'tap';

/** Calls until V8 has optimised a function, in a process of its own. Not beside it: so the count is always the same. */
function callsUntilOptimised(isEarly: boolean): number {
  const module = new URL('../../environment/node/early-compiling.js', import.meta.url).href;
  const program = `
    import { compileEarly } from '${module}';
    ${isEarly ? 'compileEarly();' : ''}
    const OPTIMISED = 16;
    const sum = (from, to) => {
      let total = 0;
      for (let at = from; at < to; at++) total += at % 7;
      return total;
    };
    let calls = 0;
    while ((%GetOptimizationStatus(sum) & OPTIMISED) === 0 && calls < 1e6) sum(calls, ++calls + 3);
    console.log(calls);`;
  const flags = ['--allow-natives-syntax', '--no-concurrent-recompilation', '--no-use-osr'];
  return Number(
    execFileSync(process.execPath, [...flags, '--input-type=module', '-e', program], { encoding: 'utf8' }),
  );
}

const isOld = Number.parseInt(process.versions.node, 10) <= 20;

t.test('young processes: what runs often is optimised earlier than V8 would by itself', async (t) => {
  const [early, usual] = [callsUntilOptimised(true), callsUntilOptimised(false)];
  t.ok(early > 0 && usual < 1e6, `${early} and ${usual} calls`);
  if (isOld) t.ok(early < usual / 2, `${early} calls instead of ${usual}`);
  else t.equal(early, usual, 'newer ones are left as they are');
});
