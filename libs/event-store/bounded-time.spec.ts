import { itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { fromLine } from './event-line';

/** Gives what is read, or why it is refused. */
function outcomeOf(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    return (error as Error).message;
  }
}

const readers: Record<string, Reader> = {
  fromLine: ofText((text) => [
    outcomeOf(() => fromLine(text)),
    outcomeOf(() => fromLine(JSON.stringify({ specversion: '1.0', type: text, subject: text, data: text }))),
  ]),
};

describe('a line of the log is read in time linear in its length', () => itIsLinear(readers, 17, 40));
