/** Metrics by prom-client, each environment with a registry of its own. */
import * as prometheus from 'prom-client';
import type { Counter, Gauge, Histogram, Metrics } from '../ports/index.js';

type Labels = Readonly<Record<string, string>>;
type Family = prometheus.Counter | prometheus.Gauge | prometheus.Histogram;

export class NodeMetrics implements Metrics {
  readonly #registry = new prometheus.Registry();
  readonly #families = new Map<string, Family>();
  #processIncluded = false;

  counter(name: string, help: string, labels: Labels = {}): Counter {
    const make = () => new prometheus.Counter(this.#configuration(name, help, labels));
    const child = this.#family(name, prometheus.Counter, make).labels(labels);
    return { add: (count = 1) => child.inc(count) };
  }

  gauge(name: string, help: string, labels: Labels = {}): Gauge {
    const make = () => new prometheus.Gauge(this.#configuration(name, help, labels));
    const child = this.#family(name, prometheus.Gauge, make).labels(labels);
    return { set: (value) => child.set(value) };
  }

  histogram(name: string, help: string, buckets: readonly number[], labels: Labels = {}): Histogram {
    const make = () =>
      new prometheus.Histogram({ ...this.#configuration(name, help, labels), buckets: [...buckets] });
    const child = this.#family(name, prometheus.Histogram, make).labels(labels);
    return { observe: (value) => child.observe(value) };
  }

  /** The first call adds the process' own metrics (CPU, memory, event loop): who is never asked never measures them. */
  expose(): Promise<string> {
    if (!this.#processIncluded) {
      this.#processIncluded = true;
      prometheus.collectDefaultMetrics({ register: this.#registry });
    }
    return this.#registry.metrics();
  }

  #configuration(name: string, help: string, labels: Labels) {
    return { name, help, labelNames: Object.keys(labels), registers: [this.#registry] };
  }

  #family<F extends Family>(name: string, kind: new (...args: never[]) => F, make: () => F): F {
    const known = this.#families.get(name);
    if (known instanceof kind) return known;
    if (known !== undefined) throw new Error(`metric ${name} is asked for as two kinds`);
    const made = make();
    this.#families.set(name, made);
    return made;
  }
}
