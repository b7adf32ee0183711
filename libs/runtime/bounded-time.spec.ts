import { itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { parseDuration } from './duration';
import { parseTime } from './time-words';
import { visible, visibleJson } from './visible';

const readers: Record<string, Reader> = {
  parseDuration: ofText(parseDuration),
  parseTime: ofText((text) => parseTime(text, new Date(0))),
  visible: ofText(visible),
  visibleJson: ofText((text) => visibleJson(JSON.stringify(text))),
};

describe('a duration, a time or a text to show is read in time linear in its length', () =>
  itIsLinear(readers, 17, 60));
