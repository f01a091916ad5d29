/**
 * Metrics, each environment with a registry of its own. What is counted and timed is counted in plain
 * numbers, a few nanoseconds each, for there are operations that take microseconds; prom-client, which
 * takes longer than those, gets them when somebody asks for the page.
 */
import * as prometheus from 'prom-client';
import type { Counter, Gauge, Histogram, Metrics } from '../ports/index.js';

type Labels = Readonly<Record<string, string>>;

class PlainCounter implements Counter {
  readonly #exposed: prometheus.Counter.Internal;
  #count = 0;

  constructor(exposed: prometheus.Counter.Internal) {
    this.#exposed = exposed;
  }

  add(count = 1): void {
    this.#count += count;
  }

  hand(): void {
    this.#exposed.inc(this.#count);
    this.#count = 0;
  }
}

class PlainHistogram implements Histogram {
  readonly #labels: string;
  readonly #bounds: readonly number[];
  /** By bucket; what is above the last bound comes last. */
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  constructor(labels: Labels, bounds: readonly number[]) {
    this.#labels = Object.entries(labels)
      .map(([name, value]) => `,${name}="${escapeLabel(value)}"`)
      .join('');
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++;
    (this.#counts[bucket] as number)++;
    this.#sum += value;
    this.#count++;
  }

  /** The lines of the text format. */
  lines(name: string): string[] {
    let upTo = 0;
    const buckets = this.#counts.map((count, bucket) => {
      upTo += count;
      const bound = this.#bounds[bucket] ?? '+Inf';
      return `${name}_bucket{le="${bound}"${this.#labels}} ${upTo}`;
    });
    const own = this.#labels === '' ? '' : `{${this.#labels.slice(1)}}`;
    return [...buckets, `${name}_sum${own} ${this.#sum}`, `${name}_count${own} ${this.#count}`];
  }
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

interface HistogramFamily {
  readonly help: string;
  readonly children: Map<string, PlainHistogram>;
}

export class NodeMetrics implements Metrics {
  readonly #registry = new prometheus.Registry();
  readonly #families = new Map<string, prometheus.Counter | prometheus.Gauge>();
  readonly #counters = new Map<string, PlainCounter>();
  readonly #histograms = new Map<string, HistogramFamily>();
  #processIncluded = false;

  counter(name: string, help: string, labels: Labels = {}): Counter {
    const family = this.#family(name, prometheus.Counter, () => {
      return new prometheus.Counter(this.#configuration(name, help, labels));
    });
    const key = `${name} ${JSON.stringify(labels)}`;
    const known = this.#counters.get(key);
    if (known !== undefined) return known;
    const made = new PlainCounter(family.labels(labels));
    this.#counters.set(key, made);
    return made;
  }

  gauge(name: string, help: string, labels: Labels = {}): Gauge {
    const family = this.#family(name, prometheus.Gauge, () => {
      return new prometheus.Gauge(this.#configuration(name, help, labels));
    });
    const child = family.labels(labels);
    return { set: (value) => child.set(value) };
  }

  histogram(name: string, help: string, buckets: readonly number[], labels: Labels = {}): Histogram {
    if (this.#families.has(name)) throw new Error(`metric ${name} is asked for as two kinds`);
    let family = this.#histograms.get(name);
    if (family === undefined) {
      family = { help, children: new Map() };
      this.#histograms.set(name, family);
    }
    const key = JSON.stringify(labels);
    const known = family.children.get(key);
    if (known !== undefined) return known;
    const made = new PlainHistogram(labels, buckets);
    family.children.set(key, made);
    return made;
  }

  /** The first call adds the process' own metrics (CPU, memory, event loop): who is never asked never measures them. */
  async expose(): Promise<string> {
    if (!this.#processIncluded) {
      this.#processIncluded = true;
      prometheus.collectDefaultMetrics({ register: this.#registry });
    }
    for (const counter of this.#counters.values()) counter.hand();
    const others = await this.#registry.metrics();
    const histograms = [...this.#histograms].map(([name, { help, children }]) => {
      const lines = [...children.values()].flatMap((child) => child.lines(name));
      return [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`, ...lines, ''].join('\n');
    });
    return [others, ...histograms].join('\n');
  }

  #configuration(name: string, help: string, labels: Labels) {
    return { name, help, labelNames: Object.keys(labels), registers: [this.#registry] };
  }

  #family<F extends prometheus.Counter | prometheus.Gauge>(
    name: string,
    kind: new (...args: never[]) => F,
    make: () => F,
  ): F {
    const known = this.#families.get(name);
    if (known instanceof kind) return known;
    if (known !== undefined || this.#histograms.has(name))
      throw new Error(`metric ${name} is asked for as two kinds`);
    const made = make();
    this.#families.set(name, made);
    return made;
  }
}
