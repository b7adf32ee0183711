import { closeSync, constants, existsSync, fstatSync, openSync, readSync, statSync, type BigIntStats } from 'node:fs';
import { isAbsolute } from 'node:path';
import { Logger } from '@nestjs/common';
import { Alarm } from './alarm';
import { Gauge } from './metrics';

/** The most octets of a file with a secret; the longest setting, a ring of keys, has a hundred octets a key. */
const largest = 65_536;

const alarm = new Alarm('settings');
const logger = new Logger('settings');
const faults = new Gauge({
  name: 'sendmux_secret_file_fault',
  help: 'Whether the file of a secret has changed to what cannot be used, so that the last value is used: 1 where it has',
  labelNames: ['setting'],
});

/** A file as it is now: the content of a file that has the same mark is the same. */
const markOf = ({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string => [ino, size, mtimeNs, ctimeNs].join('/');

/**
 * Reads a secret from its file: one line of UTF-8 text, without the line break at its end.
 *
 * @throws {Error} with a message that ends a sentence about the file and has nothing of its content.
 */
function readSecret(path: string): { readonly text: string; readonly mark: string } {
  // Opening a FIFO without a writer would wait for one.
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(file, { bigint: true });
    if (!stats.isFile()) throw new Error('is no file');
    const read = Buffer.alloc(largest + 1);
    let length = 0;
    for (let more = -1; more !== 0 && length < read.length; length += more)
      more = readSync(file, read, length, read.length - length, null);
    if (length > largest) throw new Error(`has more than ${largest} octets`);
    return { text: lineOf(read.subarray(0, length)), mark: markOf(stats) };
  } finally {
    closeSync(file);
  }
}

function lineOf(octets: Buffer): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(octets);
  } catch {
    throw new Error('is no text in UTF-8');
  }
  const line = text.replace(/\r?\n$/, '');
  if (line === '') throw new Error('is empty');
  // A URL would drop a line break without a word, and a password would keep it.
  if (/\p{Cc}/u.test(line)) throw new Error('has more than one line, or a control character');
  return line;
}

/** Gives the reason of a fault of the file system in a sentence about the file. */
const reasonOf = (error: unknown): string => {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined) return message;
  return code === 'ENOENT' ? 'is missing' : `cannot be read (${code})`;
};

/**
 * Holds the value of a setting whose text is in a file, and follows the file: a value that is asked for is that of the
 * file as it is now. Files of Kubernetes are replaced by the exchange of a link, which this sees as well.
 */
export class SecretFile<T> {
  private held!: T;
  private mark = '';
  private isFaulty = false;

  /**
   * @param parse makes the value of the text. It throws an error whose message says nothing of the text.
   * @throws {Error} where the file cannot be used. It names the path, unless that may be the secret, put there by
   * mistake.
   */
  constructor(
    private readonly setting: string,
    private readonly path: string,
    private readonly parse: (text: string) => T,
  ) {
    try {
      this.take();
    } catch (error) {
      const isPath = isAbsolute(path) || existsSync(path);
      throw new Error(
        isPath
          ? `${setting}_FILE: ${path} ${reasonOf(error)}`
          : `${setting}_FILE names no file: it has to be a path. What it has is not shown, since it may be the secret`,
        { cause: error },
      );
    }
  }

  /**
   * Gives the value. While the file is missing, or has what cannot be used, the last one stays and an operator is
   * alarmed.
   */
  get value(): T {
    const { setting, path } = this;
    try {
      if (markOf(statSync(path, { bigint: true })) !== this.mark) {
        this.take();
        logger.log(`${setting} has changed: it is used as ${path} has it now`);
      }
      if (this.isFaulty) faults.remove({ setting });
      this.isFaulty = false;
    } catch (error) {
      this.isFaulty = true;
      faults.set({ setting }, 1);
      alarm.raise(setting, `${setting}_FILE: ${path} ${reasonOf(error)}. The last value is used until it is mended`);
    }
    return this.held;
  }

  private take(): void {
    const { text, mark } = readSecret(this.path);
    this.held = this.parse(text);
    this.mark = mark;
  }
}
