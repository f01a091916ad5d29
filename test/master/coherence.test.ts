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

/** Two clients that keep what they are told, of which the second answers when the test has it do so. */
function setUpSlow() {
  const state = new LoggedState(1024, 77);
  const { environment } = new SimulatedWorld(8801).process('master');
  const coherence = new Coherence(state, environment, { maxPromises: 1_024, sessionTimeoutMs: 2_000 });
  const answers: (() => void)[] = [];
  const peer = {
    remote: '',
    closed: false,
    call: () => new Promise((resolve) => answers.push(() => resolve({ body: {} }))),
    onceClosed: () => undefined,
    close: () => undefined,
  } as unknown as Caller;
  coherence.open(APPENDER, { ...peer, call: () => Promise.resolve({ body: {} }) } as unknown as Caller);
  coherence.open(OTHER, peer);
  const carryOut = (session: number, event: LogEvent) => {
    const record: LogRecord = { timeSec: 1, timeNsec: 0, session: 0, sequence: 0, method: 0, event };
    const touched = coherence.touches(event);
    apply(state, record, NO_EFFECTS);
    return coherence.applied({ ...record, session }, touched, false).acknowledged;
  };
  const file = (id: number): LogEvent => {
    const owner = { uid: 0, gid: 0, rdev: 0 };
    return { type: 'created', parent: m.ROOT_ID, name: `f${id}`, id, mode: 0o100644, ...owner };
  };
  void carryOut(APPENDER, file(NODE));
  return { coherence, carryOut, answers, file };
}

const setMode: LogEvent = { type: 'aclSet', id: NODE, kind: 'access', mode: 0o600 };

/** Whether it is still waited for when all that can go on without an answer has. */
async function isWaitedFor(acknowledged: Promise<unknown> | undefined): Promise<boolean> {
  const turn = new Promise<true>((resolve) => setImmediate(() => resolve(true)));
  return Promise.race([turn, Promise.resolve(acknowledged).then(() => false)]);
}

t.test('coherence: a change waits also for who has not heard of the change before it', async (t) => {
  const { coherence, carryOut, answers } = setUpSlow();
  coherence.promiseAttributes(OTHER, NODE);
  // Nobody waits for a time of access; who was told the attributes is asked to forget them.
  void carryOut(APPENDER, { type: 'accessed', items: [{ id: NODE, sec: 2, nsec: 0 }] });
  const acknowledged = carryOut(APPENDER, setMode);
  t.equal(await isWaitedFor(acknowledged), true);
  t.equal(answers.length, 1, 'told once');
  answers[0]?.();
  t.equal(await isWaitedFor(acknowledged), false);
  t.equal(carryOut(APPENDER, setMode), undefined, 'then nobody is left');
});

t.test('coherence: who makes a change does not wait for what it has not forgotten itself', async (t) => {
  const { coherence, carryOut } = setUpSlow();
  coherence.promiseAttributes(OTHER, NODE);
  void carryOut(APPENDER, { type: 'accessed', items: [{ id: NODE, sec: 2, nsec: 0 }] });
  coherence.close(APPENDER);
  t.equal(carryOut(OTHER, setMode), undefined);
});

t.test('coherence: a new name waits also for who is being told to forget all names', async (t) => {
  const { coherence, carryOut, answers, file } = setUpSlow();
  coherence.promiseEntries(OTHER, m.ROOT_ID);
  // So many changes of names that nobody asked about are told one by one, then that of all.
  for (let id = 100; id < 165; id++) void carryOut(APPENDER, file(id));
  const acknowledged = carryOut(APPENDER, file(200));
  t.equal(await isWaitedFor(acknowledged), true);
  for (const answer of answers) answer();
  t.equal(await isWaitedFor(acknowledged), false);
});

t.test('coherence: nobody tells a length late while another is being told to forget it', async (t) => {
  const { coherence, carryOut, answers } = setUpSlow();
  coherence.promiseAttributes(OTHER, NODE);
  const acknowledged = carryOut(APPENDER, { type: 'extended', id: NODE, size: 10 });
  t.equal(coherence.late.defer(APPENDER, NODE), false);
  await isWaitedFor(acknowledged);
  answers[0]?.();
  await acknowledged;
  t.equal(coherence.late.defer(APPENDER, NODE), true);
});
