// What the Node verifiers share: one JSON line per event, and a life that ends with the parent's.

import { Console } from 'node:console';
import { parseArgs } from 'node:util';

/** Prints `value` as one line of JSON. Standard output carries nothing else. */
export function emit(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Libraries print notices with `console.info`; on standard output they would break the line protocol. */
export function keepConsoleOffStdout() {
  globalThis.console = new Console(process.stderr, process.stderr);
}

/** `--port N` (default: the system chooses) and `--watch-stdin`, the options every server here has; and its `own`. */
export function serverOptions(own = {}) {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '0' },
      'watch-stdin': { type: 'boolean', default: false },
      ...own,
    },
  });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new Error(`not a port: \`${values.port}\``);
  }
  return { ...values, port, watchStdin: values['watch-stdin'] };
}

/** Exits on SIGTERM, SIGINT and, with `watchStdin`, as soon as the parent closes our standard input. */
export function exitWithParent({ watchStdin }) {
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => process.exit(0));
  if (watchStdin) {
    process.stdin.on('end', () => process.exit(0));
    process.stdin.resume();
  }
}

/** Reads a whole stream as UTF-8 text. */
export async function readAll(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}
