import { itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { parseDuration } from './duration';
import { parseTime } from './time-words';

const readers: Record<string, Reader> = {
  parseDuration: ofText(parseDuration),
  parseTime: ofText((text) => parseTime(text, new Date(0))),
};

describe('a duration or a time is read in time linear in its length', () => itIsLinear(readers, 17, 60));
