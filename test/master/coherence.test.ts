/** Who is asked and told of what, by the master's table of promises alone. */
import t from 'tap';
import { apply, NO_EFFECTS } from '../../master/apply.js';
import { Coherence } from '../../master/coherence.js';
import { LoggedState } from '../../master/state.js';
import * as m from '../../protocol/messages/index.js';
import type { LogEvent, LogRecord } from '../../protocol/records.js';
import type { Caller } from '../../protocol/rpc.js';
import { SimulatedWorld } from '../fakes/index.js';

const NODE = 2;
const [APPENDER, OTHER] = [7, 8];

/** Two clients, of which one appends to a file and tells its length late. */
function setUp() {
  const state = new LoggedState(1024, 77);
  const { environment } = new SimulatedWorld(8800).process('master');
  const coherence = new Coherence(state, environment, { maxPromises: 16, sessionTimeoutMs: 2_000 });
  const asked: string[] = [];
  const peer = {
    remote: '',
    closed: false,
    call: async ({ name }: { readonly name: string }) => {
      asked.push(name);
      return { body: {} };
    },
    onceClosed: () => undefined,
    close: () => undefined,
  } as unknown as Caller;
  coherence.open(APPENDER, peer);
  coherence.open(OTHER, { ...peer, call: () => Promise.reject(new Error('not asked')) } as Caller);
  const carryOut = (session: number, event: LogEvent) => {
    const record: LogRecord = { timeSec: 1, timeNsec: 0, session: 0, sequence: 0, method: 0, event };
    const touched = coherence.touches(event);
    apply(state, record, NO_EFFECTS);
    return coherence.applied({ ...record, session }, touched, false).acknowledged;
  };
  const made = { parent: m.ROOT_ID, name: 'log', id: NODE, mode: 0o100644, uid: 0, gid: 0, rdev: 0 };
  void carryOut(APPENDER, { type: 'created', ...made });
  return { coherence, asked, carryOut };
}

t.test('coherence: who tells lengths late is asked also after another has cut the file', async (t) => {
  const { coherence, asked, carryOut } = setUp();
  t.equal(coherence.late.defer(APPENDER, NODE), true);
  // It is being told. What it acknowledges before it hears of it, nobody else knows.
  const acknowledged = carryOut(OTHER, { type: 'attributesSet', id: NODE, changes: { size: 0 } });
  const told = coherence.late.reported([NODE], OTHER);
  t.not(told, undefined);
  await told;
  await acknowledged;
  t.same(asked.sort(), [m.BreakPromises.name, m.ReportLengths.name].sort());
  t.equal(coherence.late.reported([NODE], OTHER), undefined, 'once');
});

t.test('coherence: nobody is asked when all that tell late are gone', async (t) => {
  const { coherence, asked, carryOut } = setUp();
  coherence.late.defer(APPENDER, NODE);
  await carryOut(OTHER, { type: 'attributesSet', id: NODE, changes: { size: 0 } });
  coherence.close(APPENDER);
  t.equal(coherence.late.reported([NODE], OTHER), undefined);
  t.same(asked, [m.BreakPromises.name]);
});
