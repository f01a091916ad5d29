export interface Counter {
  add(count?: number): void;
}

export interface Gauge {
  set(value: number): void;
}

export interface Histogram {
  /** Records one value, in the unit that ends the metric's name. */
  observe(value: number): void;
}

/** Metrics by Prometheus' rules: names end with their unit, counters with `_total`. Asking twice for a name and labels gives the same one. */
export interface Metrics {
  counter(name: string, help: string, labels?: Readonly<Record<string, string>>): Counter;
  gauge(name: string, help: string, labels?: Readonly<Record<string, string>>): Gauge;
  histogram(
    name: string,
    help: string,
    buckets: readonly number[],
    labels?: Readonly<Record<string, string>>,
  ): Histogram;
  /** The text exposition format. */
  expose(): Promise<string>;
}
