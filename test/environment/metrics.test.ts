import t from 'tap';
import { NodeMetrics } from '../../environment/node/metrics.js';

t.test('metrics: the page has counters, gauges and histograms as Prometheus reads them', async (t) => {
  const metrics = new NodeMetrics();
  metrics.counter('a_total', 'Things', { kind: 'x' }).add();
  metrics.counter('a_total', 'Things', { kind: 'x' }).add(2);
  metrics.counter('a_total', 'Things', { kind: 'y' });
  metrics.gauge('b', 'A level').set(7);
  const histogram = metrics.histogram('c_ms', 'Times', [1, 2.5, 10], { how: 'a"\n' });
  for (const value of [0.5, 1, 2, 11]) histogram.observe(value);
  t.equal(metrics.histogram('c_ms', 'Times', [1, 2.5, 10], { how: 'a"\n' }), histogram, 'the same one');
  metrics.histogram('d_ms', 'Nothing yet', [1]);
  const page = await metrics.expose();
  for (const line of [
    '# TYPE a_total counter',
    'a_total{kind="x"} 3',
    'b 7',
    '# HELP c_ms Times',
    '# TYPE c_ms histogram',
    'c_ms_bucket{le="1",how="a\\"\\n"} 2',
    'c_ms_bucket{le="2.5",how="a\\"\\n"} 3',
    'c_ms_bucket{le="10",how="a\\"\\n"} 3',
    'c_ms_bucket{le="+Inf",how="a\\"\\n"} 4',
    'c_ms_sum{how="a\\"\\n"} 14.5',
    'c_ms_count{how="a\\"\\n"} 4',
    'd_ms_bucket{le="+Inf"} 0',
    'd_ms_count 0',
  ])
    t.ok(page.split('\n').includes(line), line);
  t.match(page, /^process_cpu_seconds_total /m, 'and what the process tells of itself');
  metrics.counter('a_total', 'Things', { kind: 'x' }).add(4);
  t.match(await metrics.expose(), 'a_total{kind="x"} 7');
});

t.test('metrics: one name is one kind', (t) => {
  const metrics = new NodeMetrics();
  metrics.histogram('a', 'x', [1]);
  metrics.gauge('b', 'x');
  t.throws(() => metrics.counter('a', 'x'));
  t.throws(() => metrics.histogram('b', 'x', [1]));
  t.throws(() => metrics.counter('b', 'x'));
  t.end();
});
