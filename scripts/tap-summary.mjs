// Reads tap's output as it comes: a line for each file, everything of a file that failed, and the counts.

/** A file's own result is not indented, its tests by four spaces, their assertions by more. */
const RESULT = /^( *)(not ok|ok) \d+(?: - (.*?))?(?: # (.*))?(?: \{)?$/;
const TEST_INDENT = 4;

export class TapSummary {
  passed = 0;
  failed = 0;
  skipped = 0;
  #print;
  #rest = '';
  /** Of the file that is being read. */
  #file = 'a file';
  #lines = [];
  #passedHere = 0;
  #failedHere = 0;
  #skippedHere = 0;

  constructor(print) {
    this.#print = print;
  }

  push(text) {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  /** The output is over, in the middle of a file where something killed it. */
  end() {
    if (this.#rest !== '') this.#line(this.#rest);
    this.#rest = '';
    if (this.#failedHere > 0 || this.#passedHere > 0)
      this.#finishFile(`${this.#file} (it did not end)`, false, '');
  }

  /** Something outside the tests went wrong. */
  fail(reason) {
    this.failed++;
    this.#print(`FAILED: ${reason}`);
  }

  #line(line) {
    this.#lines.push(line);
    this.#file = /^# Subtest: (.*)/.exec(line)?.[1] ?? this.#file;
    const [, indent, result, name, note = ''] = RESULT.exec(line) ?? [];
    if (indent === undefined) return;
    if (indent.length === TEST_INDENT) {
      if (/^(SKIP|TODO)\b/i.test(note)) this.#skippedHere++;
      else if (result === 'ok') this.#passedHere++;
      else this.#failedHere++;
    } else if (indent.length === 0 && name === 'timeout!') {
      // Once a file has timed out, tap puts this in the place of the last file's result.
      this.#finishFile(this.#file, this.#failedHere === 0, '');
    } else if (indent.length === 0) {
      this.#finishFile(name ?? this.#file, result === 'ok', note);
    }
  }

  #finishFile(name, isOk, note) {
    // A crash or a timeout fails the file and none of its tests.
    if (!isOk && this.#failedHere === 0) this.#failedHere = 1;
    const time = /time=([\d.]+)ms/.exec(note)?.[1];
    const seconds = time === undefined ? '' : `, ${(Number(time) / 1000).toFixed(1)} s`;
    const counts = [
      `${this.#passedHere} passed`,
      ...(this.#failedHere > 0 ? [`${this.#failedHere} FAILED`] : []),
      ...(this.#skippedHere > 0 ? [`${this.#skippedHere} skipped`] : []),
    ];
    if (this.#failedHere > 0) for (const line of this.#lines) this.#print(line);
    this.#print(
      `${isOk ? 'ok    ' : 'FAILED'} ${name.replace(/^dist\//, '').replace(/ # .*/, '')}: ${counts.join(', ')}${seconds}`,
    );
    this.passed += this.#passedHere;
    this.failed += this.#failedHere;
    this.skipped += this.#skippedHere;
    this.#lines = [];
    this.#passedHere = 0;
    this.#failedHere = 0;
    this.#skippedHere = 0;
  }
}
