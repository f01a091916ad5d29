/**
 * System calls that Node lacks (renameat2, SEEK_DATA, copy_file_range, xattrs, locks, mmap, fork, …),
 * made by a Python beside the test: it is told statements and says what they left in `result`.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

/**
 * Byte strings go both ways as latin1. What the statements see beside their variables: the modules,
 * `libc`, and `check(result)`, which raises what a call of libc's has left in errno.
 */
const SERVER = `
import ctypes, errno, fcntl, json, mmap, os, select, signal, socket, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
def child(function):
    """Runs it in a process of its own; tells whether it returned true."""
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            good = function()
        except BaseException as error:
            print('child:', repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(0 if good else 1)
    return pid
def joined(*pids):
    return all([os.waitpid(pid, 0)[1] == 0 for pid in pids])
def decoded(value):
    if isinstance(value, str): return value.encode('latin1')
    return [decoded(one) for one in value] if isinstance(value, list) else value
def encoded(value):
    if isinstance(value, (bytes, bytearray)): return value.decode('latin1')
    return [encoded(one) for one in value] if isinstance(value, (list, tuple)) else value
tools = dict(globals())
for line in sys.stdin:
    request = json.loads(line)
    scope = dict(tools, result=None, **{name: decoded(value) for name, value in request['variables'].items()})
    try:
        exec(request['code'], scope)
        answer = {'result': encoded(scope['result'])}
    except OSError as error:
        answer = {'code': errno.errorcode.get(error.errno, str(error.errno)), 'message': str(error)}
    except BaseException as error:
        answer = {'code': 'PYTHON', 'message': repr(error)}
    print(json.dumps(answer), flush=True)
`;

/** A system call failed: `code` is the errno's name, as in Node's own errors. */
export class SystemError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

type Value = string | number | boolean | readonly Value[];

export class Python {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: { resolve(value: unknown): void; reject(error: Error): void }[] = [];
  #ended = false;

  constructor() {
    this.#process = spawn('python3', ['-c', SERVER], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface(this.#process.stdout).on('line', (line) => this.#onAnswer(line));
    this.#process.on('exit', () => {
      this.#ended = true;
      for (const { reject } of this.#waiting.splice(0)) reject(new Error('python ended'));
    });
  }

  /** Runs the statements with the variables, strings as bytes. @throws SystemError */
  async run<T>(code: string, variables: Readonly<Record<string, Value>> = {}): Promise<T> {
    if (this.#ended) throw new Error('python ended');
    const answer = new Promise<T>((resolve, reject) => {
      this.#waiting.push({ resolve: resolve as (value: unknown) => void, reject });
    });
    this.#process.stdin.write(`${JSON.stringify({ code: unindented(code), variables })}\n`);
    return await answer;
  }

  close(): void {
    this.#process.kill('SIGKILL');
  }

  #onAnswer(line: string): void {
    const answer = JSON.parse(line) as { result?: unknown; code?: string; message?: string };
    const { resolve, reject } = this.#waiting.shift()!;
    if (answer.code === undefined) resolve(answer.result);
    else reject(new SystemError(answer.code, answer.message ?? answer.code));
  }
}

/** Lets statements be indented as the test around them is. */
function unindented(code: string): string {
  const lines = code.split('\n').filter((line) => line.trim() !== '');
  const margin = Math.min(...lines.map((line) => line.search(/\S/)));
  return lines.map((line) => line.slice(margin)).join('\n');
}
