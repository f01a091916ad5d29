import type { Counter, Gauge, Histogram, Metrics } from '../../environment/ports/index.js';

type Labels = Readonly<Record<string, string>>;

function keyOf(name: string, labels: Labels): string {
  const parts = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return parts.length === 0 ? name : `${name}{${parts.sort().join(',')}}`;
}

/** Metrics in memory. */
export class FakeMetrics implements Metrics {
  readonly #values = new Map<string, number>();
  readonly #observed = new Map<string, number[]>();

  /** A counter's or gauge's value; 0 when nobody has touched it. */
  value(name: string, labels: Labels = {}): number {
    return this.#values.get(keyOf(name, labels)) ?? 0;
  }

  /** What a histogram was given. */
  observed(name: string, labels: Labels = {}): readonly number[] {
    return this.#observed.get(keyOf(name, labels)) ?? [];
  }

  counter(name: string, _help: string, labels: Labels = {}): Counter {
    const key = keyOf(name, labels);
    return { add: (count = 1) => this.#values.set(key, (this.#values.get(key) ?? 0) + count) };
  }

  gauge(name: string, _help: string, labels: Labels = {}): Gauge {
    const key = keyOf(name, labels);
    return { set: (value) => this.#values.set(key, value) };
  }

  histogram(name: string, _help: string, _buckets: readonly number[], labels: Labels = {}): Histogram {
    const key = keyOf(name, labels);
    return {
      observe: (value) => {
        const list = this.#observed.get(key) ?? [];
        if (list.length < 10_000) list.push(value);
        this.#observed.set(key, list);
      },
    };
  }

  async expose(): Promise<string> {
    return [...this.#values].map(([key, value]) => `${key} ${value}\n`).join('');
  }
}
